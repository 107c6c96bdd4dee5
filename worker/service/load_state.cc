#include "worker/service/load_state.h"

#include <algorithm>
#include <utility>

namespace mili::worker {

void LoadState::SetProgress(uint64_t loaded_bytes, uint64_t total_bytes) {
  MutexLock watchers_lock(watchers_mutex_);
  {
    MutexLock lock(mutex_);
    // Several threads read weights: news may come out of order.
    state_.loaded_bytes = std::max(state_.loaded_bytes, loaded_bytes);
    state_.total_bytes = total_bytes;
    ++state_.version;
  }
  Tell();
}

void LoadState::Touch() {
  MutexLock watchers_lock(watchers_mutex_);
  {
    MutexLock lock(mutex_);
    ++state_.version;
  }
  Tell();
}

void LoadState::SetLoaded(Loaded loaded) {
  MutexLock watchers_lock(watchers_mutex_);
  {
    MutexLock lock(mutex_);
    state_.loaded = std::make_shared<const Loaded>(std::move(loaded));
    ++state_.version;
  }
  Tell();
}

void LoadState::SetFailed(absl::Status status) {
  MutexLock watchers_lock(watchers_mutex_);
  {
    MutexLock lock(mutex_);
    state_.failure = std::move(status);
    ++state_.version;
  }
  Tell();
}

LoadState::Snapshot LoadState::Get() const {
  MutexLock lock(mutex_);
  return state_;
}

uint64_t LoadState::Watch(std::function<void()> watcher) {
  MutexLock lock(watchers_mutex_);
  watchers_[next_watcher_] = std::move(watcher);
  return next_watcher_++;
}

void LoadState::Unwatch(uint64_t id) {
  MutexLock lock(watchers_mutex_);
  watchers_.erase(id);
}

void LoadState::Tell() {
  for (const auto& [id, watcher] : watchers_) watcher();
}

}  // namespace mili::worker

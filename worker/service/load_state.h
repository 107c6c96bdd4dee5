// LoadState: how far loading has come and what came of it, for everyone who asks. Written by the
// loading threads, watched by any number of Describe calls. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <absl/status/status.h>

#include "common/base/mutex.h"
#include "common/core/worker_facts.h"

namespace mili::worker {

class Engine;

// What a loaded worker serves with. Immutable.
struct Loaded {
  WorkerFacts facts;  // last_epoch as of loading
  // The serialised TokenizerBundle and its digest; empty if the model has no tokenizer.
  std::string tokenizer_bytes;
  std::string tokenizer_digest;
  Engine* engine = nullptr;  // outlives the service
};

class LoadState {
 public:
  struct Snapshot {
    uint64_t version = 0;  // moves with every piece of news
    uint64_t loaded_bytes = 0;
    uint64_t total_bytes = 0;
    std::shared_ptr<const Loaded> loaded;  // set once loading has ended well
    absl::Status failure;                  // not OK once it has ended badly
  };

  void SetProgress(uint64_t loaded_bytes, uint64_t total_bytes);
  // Says again how far it is, so that watchers see a sign of life.
  void Touch();
  void SetLoaded(Loaded loaded);
  void SetFailed(absl::Status status);

  Snapshot Get() const;
  // `watcher` is called after each piece of news, on the thread that brought it, until it is
  // removed; Unwatch returns when no call to it is under way.
  uint64_t Watch(std::function<void()> watcher);
  void Unwatch(uint64_t id);

 private:
  void Tell() MILI_REQUIRES(watchers_mutex_);

  mutable Mutex mutex_;
  Snapshot state_ MILI_GUARDED_BY(mutex_);
  Mutex watchers_mutex_;  // taken before mutex_
  uint64_t next_watcher_ MILI_GUARDED_BY(watchers_mutex_) = 1;
  std::map<uint64_t, std::function<void()>> watchers_ MILI_GUARDED_BY(watchers_mutex_);
};

}  // namespace mili::worker

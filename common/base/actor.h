// Actor: a mailbox and who handles its messages: one thread at a time and in their order, but not
// always the same thread. Its own thread handles what Post brings and wakes at deadlines; a sender
// that may spare the time handles its message itself (PostAndHandle), which saves two changes of
// thread. The messages' state belongs to whoever is inside the handler.
#pragma once

#include <cstddef>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include <absl/time/clock.h>
#include <absl/time/time.h>

#include "common/base/mutex.h"

namespace mili {

template <typename T>
class Actor {
 public:
  // Handles messages, in order of arrival, and says when it must be called again without any (by
  // the machine's clock). Never called twice at once.
  using Handler = std::function<absl::Time(std::vector<T>)>;

  // `capacity` bounds TryPost alone.
  Actor(size_t capacity, Handler handler) : capacity_(capacity), handler_(std::move(handler)) {}
  ~Actor() { Stop(); }
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;

  // Starts the thread, with a first call of the handler without messages.
  void Start() {
    thread_ = std::thread([this] { Main(); });
  }

  // Returns once the handler will not be called any more. What is inside then, and what is still
  // posted, stays there.
  void Stop() {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      changed_.NotifyAll();
    }
    if (thread_.joinable()) thread_.join();
    MutexLock turn(turn_);  // a sender may still be inside
  }

  // From now on nothing can be posted. Returns what was inside; after Stop.
  std::vector<T> Close() {
    MutexLock lock(mutex_);
    closed_ = true;
    return std::exchange(messages_, {});
  }

  // False, and nothing is taken, if the mailbox is full or closed. Never blocks.
  [[nodiscard]] bool TryPost(T&& message) {
    MutexLock lock(mutex_);
    if (closed_ || messages_.size() >= capacity_) return false;
    messages_.push_back(std::move(message));
    changed_.NotifyOne();
    return true;
  }

  // For messages that must arrive: ignores the capacity. False only after Close. Never blocks.
  bool Post(T message) {
    MutexLock lock(mutex_);
    if (closed_) return false;
    messages_.push_back(std::move(message));
    changed_.NotifyOne();
    return true;
  }

  // As TryPost and Post, but what is inside is handled on the calling thread, unless somebody is in
  // the handler. Not from within the handler.
  [[nodiscard]] bool TryPostAndHandle(T&& message) {
    {
      MutexLock lock(mutex_);
      if (closed_ || messages_.size() >= capacity_) return false;
      messages_.push_back(std::move(message));
    }
    TakeTurn();
    return true;
  }
  bool PostAndHandle(T message) {
    {
      MutexLock lock(mutex_);
      if (closed_) return false;
      messages_.push_back(std::move(message));
    }
    TakeTurn();
    return true;
  }

 private:
  void TakeTurn() {
    if (turn_.TryLock()) {
      HandleAll();
      turn_.Unlock();
    } else {
      MutexLock lock(mutex_);
      changed_.NotifyOne();
    }
  }

  void Main() {
    do {
      MutexLock turn(turn_);
      HandleAll();
    } while (Wait());
  }

  // Until there is something to do; false: the thread shall end.
  bool Wait() {
    MutexLock lock(mutex_);
    while (messages_.empty() && !stopping_) {
      const absl::Duration left = wake_ - absl::Now();
      if (left <= absl::ZeroDuration()) break;
      changed_.WaitFor(mutex_, left);
    }
    return !stopping_;
  }

  void HandleAll() MILI_REQUIRES(turn_) {
    std::vector<T> messages;
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
      messages.swap(messages_);
    }
    const absl::Time wake = handler_(std::move(messages));
    MutexLock lock(mutex_);
    // The thread looks at its clock again when it must wake earlier than it thinks.
    if (wake < wake_) changed_.NotifyOne();
    wake_ = wake;
  }

  const size_t capacity_;
  const Handler handler_;
  Mutex turn_;  // held by whoever is in the handler
  Mutex mutex_;
  CondVar changed_;
  std::vector<T> messages_ MILI_GUARDED_BY(mutex_);
  absl::Time wake_ MILI_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  bool stopping_ MILI_GUARDED_BY(mutex_) = false;
  bool closed_ MILI_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mili

// Mailbox: the way threads talk. Many senders, one receiver that waits with a deadline.
// Bounded for what may be refused (TryPost); what must never be lost (Post) is bounded by its
// senders. It never blocks a sender.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include <absl/time/clock.h>
#include <absl/time/time.h>

#include "common/base/mutex.h"

namespace mili {

template <typename T>
class Mailbox {
 public:
  explicit Mailbox(size_t capacity) : capacity_(capacity) {}

  // False, and nothing is taken, if the mailbox is full or closed.
  [[nodiscard]] bool TryPost(T&& message) {
    MutexLock lock(mutex_);
    if (closed_ || messages_.size() >= capacity_) return false;
    Push(std::move(message));
    return true;
  }

  // For messages that must arrive: ignores the capacity. False only after Close.
  bool Post(T message) {
    MutexLock lock(mutex_);
    if (closed_) return false;
    Push(std::move(message));
    return true;
  }

  // After Close nothing can be posted; what is inside can still be taken.
  void Close() {
    MutexLock lock(mutex_);
    closed_ = true;
    ready_.NotifyAll();
  }

  // The next message; nothing at the deadline, or when closed and empty.
  std::optional<T> Take(absl::Time deadline = absl::InfiniteFuture()) {
    MutexLock lock(mutex_);
    if (!WaitUntil(deadline)) return std::nullopt;
    T message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

  // Everything inside, in order of arrival; waits like Take and is empty when Take returns nothing.
  std::vector<T> TakeAll(absl::Time deadline = absl::InfiniteFuture()) {
    MutexLock lock(mutex_);
    std::vector<T> all;
    if (!WaitUntil(deadline)) return all;
    all.reserve(messages_.size());
    for (T& message : messages_) all.push_back(std::move(message));
    messages_.clear();
    return all;
  }

  bool closed() {
    MutexLock lock(mutex_);
    return closed_;
  }

 private:
  void Push(T&& message) MILI_REQUIRES(mutex_) {
    messages_.push_back(std::move(message));
    ready_.NotifyOne();
  }

  bool WaitUntil(absl::Time deadline) MILI_REQUIRES(mutex_) {
    while (messages_.empty()) {
      if (closed_) return false;
      if (deadline == absl::InfiniteFuture()) {
        ready_.Wait(mutex_);
        continue;
      }
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return false;
      ready_.WaitFor(mutex_, left);
    }
    return true;
  }

  const size_t capacity_;
  Mutex mutex_;
  CondVar ready_;
  std::deque<T> messages_ MILI_GUARDED_BY(mutex_);
  bool closed_ MILI_GUARDED_BY(mutex_) = false;
};

}  // namespace mili

// std::mutex and std::condition_variable with clang's thread-safety annotations. Not absl::Mutex:
// ThreadSanitizer cannot see into the distribution's build of it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include <absl/time/time.h>

#if defined(__clang__)
#define MILI_GUARDED_BY(x) __attribute__((guarded_by(x)))
#define MILI_CAPABILITY __attribute__((capability("mutex")))
#define MILI_SCOPED_CAPABILITY __attribute__((scoped_lockable))
#define MILI_ACQUIRE(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define MILI_TRY_ACQUIRE(...) __attribute__((try_acquire_capability(__VA_ARGS__)))
#define MILI_RELEASE(...) __attribute__((release_capability(__VA_ARGS__)))
#define MILI_REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#else
#define MILI_GUARDED_BY(x)
#define MILI_CAPABILITY
#define MILI_SCOPED_CAPABILITY
#define MILI_ACQUIRE(...)
#define MILI_TRY_ACQUIRE(...)
#define MILI_RELEASE(...)
#define MILI_REQUIRES(...)
#endif

namespace mili {

class MILI_CAPABILITY Mutex {
 public:
  void Lock() MILI_ACQUIRE() { mutex_.lock(); }
  // Not for a thread that holds it.
  [[nodiscard]] bool TryLock() MILI_TRY_ACQUIRE(true) { return mutex_.try_lock(); }
  void Unlock() MILI_RELEASE() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class MILI_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) MILI_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() MILI_RELEASE() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

  // Waits to be notified; may wake early. The caller holds the mutex.
  void Wait(Mutex& mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }

  // As Wait, but returns false once `timeout` has passed. absl::InfiniteDuration() waits forever.
  bool WaitFor(Mutex& mutex, absl::Duration timeout) {
    if (timeout >= absl::Hours(24 * 365)) {
      Wait(mutex);
      return true;
    }
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const auto outcome = condition_.wait_for(lock, absl::ToChronoNanoseconds(timeout));
    lock.release();
    return outcome == std::cv_status::no_timeout;
  }

 private:
  std::condition_variable condition_;
};

}  // namespace mili

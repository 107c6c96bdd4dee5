// Event: a latch that one thread sets and others wait for; the CPU form of a device event.
// Thread-safe.
#pragma once

#include "common/base/mutex.h"

namespace mili::worker {

class Event {
 public:
  explicit Event(bool is_set = false) : is_set_(is_set) {}

  void Set() {
    MutexLock lock(mutex_);
    is_set_ = true;
    changed_.NotifyAll();
  }
  void Clear() {
    MutexLock lock(mutex_);
    is_set_ = false;
  }
  void Wait() {
    MutexLock lock(mutex_);
    while (!is_set_) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool is_set_ MILI_GUARDED_BY(mutex_);
};

}  // namespace mili::worker

// Stream: work in the order it was enqueued, behind the back of whoever enqueues. On the CPU a
// FIFO with one executor thread of its own, which is thread 0 of every kernel that runs in it.
#pragma once

#include <functional>
#include <thread>

#include "common/base/mailbox.h"
#include "worker/device/event.h"

namespace mili::worker {

class Stream {
 public:
  Stream() : tasks_(0), executor_([this] { ExecutorMain(); }) {}
  // Runs what is enqueued, then ends.
  ~Stream() {
    tasks_.Close();
    executor_.join();
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Never blocks; how much may stand in line is the caller's to bound. Any thread.
  void Enqueue(std::function<void()> task) { tasks_.Post(std::move(task)); }
  // Sets `event` once all that was enqueued before has run.
  void Record(Event& event) {
    Enqueue([&event] { event.Set(); });
  }
  // Waits until all that was enqueued before has run.
  void Synchronize() {
    Event done;
    Record(done);
    done.Wait();
  }

 private:
  void ExecutorMain() {
    while (std::optional<std::function<void()>> task = tasks_.Take()) (*task)();
  }

  Mailbox<std::function<void()>> tasks_;
  std::thread executor_;
};

}  // namespace mili::worker

// SignalWatcher: turns SIGTERM and SIGINT into a call; a second signal ends the process at once,
// with exit code 1.
#pragma once

#include <signal.h>

#include <atomic>
#include <functional>
#include <thread>

namespace mili::router {

class SignalWatcher {
 public:
  // Blocks the signals in the calling thread, so make it before any other thread. Without
  // `takes_interrupt` SIGINT is ignored: under a supervisor Ctrl-C is its to decide.
  SignalWatcher(bool takes_interrupt, std::function<void()> on_signal);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  void Main();

  const std::function<void()> on_signal_;
  sigset_t signals_;
  std::atomic<bool> is_ending_ = false;
  std::thread thread_;
};

}  // namespace mili::router

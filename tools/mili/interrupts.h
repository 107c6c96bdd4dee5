// InterruptGuard: while it lives, Ctrl-C, SIGTERM and SIGHUP call a function instead of ending the
// program. The function runs in the guard's own thread.
#pragma once

#include <functional>
#include <thread>

#include "tools/mili/signal_fd.h"

namespace mili {

class InterruptGuard {
 public:
  // `signals` outlives the guard and is watched by no one else meanwhile.
  InterruptGuard(const SignalFd& signals, std::function<void(int signal)> on_signal);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  void Watch();

  const SignalFd& signals_;
  const std::function<void(int)> on_signal_;
  int end_fd_;
  std::thread thread_;
};

}  // namespace mili

#include "router/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <utility>

namespace mili::router {

SignalWatcher::SignalWatcher(bool takes_interrupt, std::function<void()> on_signal)
    : on_signal_(std::move(on_signal)) {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  if (takes_interrupt) {
    sigaddset(&signals_, SIGINT);
  } else {
    signal(SIGINT, SIG_IGN);
  }
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  thread_ = std::thread([this] { Main(); });
}

SignalWatcher::~SignalWatcher() {
  is_ending_ = true;
  pthread_kill(thread_.native_handle(), SIGTERM);
  thread_.join();
}

void SignalWatcher::Main() {
  bool is_second = false;
  for (int number = 0; sigwait(&signals_, &number) == 0;) {
    if (is_ending_) return;
    if (is_second) _exit(1);
    is_second = true;
    on_signal_();
  }
}

}  // namespace mili::router

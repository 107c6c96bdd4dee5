#include "tools/mili/interrupts.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "common/base/check.h"

namespace mili {

InterruptGuard::InterruptGuard(const SignalFd& signals, std::function<void(int)> on_signal)
    : signals_(signals),
      on_signal_(std::move(on_signal)),
      end_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  MILI_CHECK(end_fd_ >= 0, "the system gives no eventfd");
  thread_ = std::thread([this] { Watch(); });
}

InterruptGuard::~InterruptGuard() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(end_fd_, &one, sizeof(one));
  thread_.join();
  close(end_fd_);
}

void InterruptGuard::Watch() {
  while (true) {
    pollfd fds[2] = {{.fd = signals_.fd(), .events = POLLIN, .revents = 0},
                     {.fd = end_fd_, .events = POLLIN, .revents = 0}};
    poll(fds, 2, -1);
    if (fds[1].revents != 0) return;
    for (int signal; (signal = signals_.Take()) != 0;) on_signal_(signal);
  }
}

}  // namespace mili

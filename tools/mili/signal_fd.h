// SignalFd: signals as something to poll for. Blocks them in the calling thread, so it is made
// before other threads start; they inherit the block, and only the fd sees the signals.
#pragma once

#include <initializer_list>

namespace mili {

class SignalFd {
 public:
  explicit SignalFd(std::initializer_list<int> signals);
  ~SignalFd();
  SignalFd(const SignalFd&) = delete;
  SignalFd& operator=(const SignalFd&) = delete;

  int fd() const { return fd_; }
  // The next signal that has come; 0 if none. Never blocks.
  int Take() const;

 private:
  int fd_;
};

}  // namespace mili

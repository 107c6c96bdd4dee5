// LineInput: lines of a terminal or a pipe, interruptible. Not thread-safe.
#pragma once

#include <optional>
#include <string>

#include "tools/mili/signal_fd.h"

namespace mili {

class LineInput {
 public:
  // `fd` and `interrupts` outlive it.
  LineInput(int fd, const SignalFd& interrupts) : fd_(fd), interrupts_(interrupts) {}

  struct Outcome {
    enum class Kind { kLine, kEnd, kSignal };
    Kind kind = Kind::kLine;
    std::string line;  // without its end
    int signal = 0;
  };
  Outcome Next();

 private:
  std::optional<std::string> TakeLine();

  const int fd_;
  const SignalFd& interrupts_;
  std::string held_;
  bool has_ended_ = false;
};

// All of stdin.
std::string ReadStdin();

}  // namespace mili

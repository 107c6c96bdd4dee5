#include "tools/mili/line_input.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace mili {

std::optional<std::string> LineInput::TakeLine() {
  const size_t end = held_.find('\n');
  if (end == std::string::npos) {
    if (!has_ended_ || held_.empty()) return std::nullopt;
    return std::exchange(held_, {});
  }
  std::string line = held_.substr(0, end);
  held_.erase(0, end + 1);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

LineInput::Outcome LineInput::Next() {
  while (true) {
    if (std::optional<std::string> line = TakeLine()) {
      return {.kind = Outcome::Kind::kLine, .line = std::move(*line)};
    }
    if (has_ended_) return {.kind = Outcome::Kind::kEnd, .line = {}};
    pollfd fds[2] = {{.fd = fd_, .events = POLLIN, .revents = 0},
                     {.fd = interrupts_.fd(), .events = POLLIN, .revents = 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) has_ended_ = true;
    if (const int signal = interrupts_.Take(); signal != 0) {
      return {.kind = Outcome::Kind::kSignal, .line = {}, .signal = signal};
    }
    if (fds[0].revents == 0) continue;
    std::array<char, 4096> buffer;
    const ssize_t num_read = read(fd_, buffer.data(), buffer.size());
    if (num_read > 0) held_.append(buffer.data(), static_cast<size_t>(num_read));
    if (num_read == 0 || (num_read < 0 && errno != EINTR && errno != EAGAIN)) has_ended_ = true;
  }
}

std::string ReadStdin() {
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t num_read = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (num_read > 0) text.append(buffer.data(), static_cast<size_t>(num_read));
    if (num_read == 0 || (num_read < 0 && errno != EINTR)) return text;
  }
}

}  // namespace mili

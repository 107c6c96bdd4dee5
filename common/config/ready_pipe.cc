#include "common/config/ready_pipe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include "common/base/strings.h"

namespace mili {

ReadyPipe::ReadyPipe(int fd) : fd_(fd) {
  if (fd_ >= 0) fcntl(fd_, F_SETFD, FD_CLOEXEC);
}

ReadyPipe::~ReadyPipe() {
  if (fd_ >= 0) close(fd_);
}

void ReadyPipe::Write(std::string_view line) {
  if (fd_ < 0) return;
  std::string bytes = absl::StrCat(ToAbsl(line), "\n");
  // A reader that is gone must not end us by SIGPIPE: hold the signal back, then take it out.
  sigset_t pipe_signal;
  sigset_t old_mask;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, &old_mask);
  std::string_view rest = bytes;
  bool is_gone = false;
  while (!rest.empty() && !is_gone) {
    const ssize_t written = write(fd_, rest.data(), rest.size());
    if (written > 0) rest.remove_prefix(static_cast<size_t>(written));
    if (written < 0 && errno != EINTR) is_gone = true;
  }
  if (is_gone) {
    const timespec now = {0, 0};
    sigtimedwait(&pipe_signal, nullptr, &now);
    close(fd_);
    fd_ = -1;
  }
  pthread_sigmask(SIG_SETMASK, &old_mask, nullptr);
}

void ReadyPipe::Listening(const Fields& fields) {
  std::string line = "listening";
  for (const auto& [name, address] : fields) absl::StrAppend(&line, " ", name, "=", address);
  Write(line);
}

void ReadyPipe::Loading(uint64_t bytes_done, uint64_t bytes_total) {
  Write(absl::StrCat("loading ", bytes_done, " ", bytes_total));
}

void ReadyPipe::Ready() { Write("ready"); }

void ReadyPipe::NotReady(std::string_view reason) {
  std::string line = absl::StrCat("not-ready ", ToAbsl(reason));
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  Write(line);
}

std::optional<ReadyEvent> ReadyEvent::Parse(std::string_view line) {
  const size_t space = line.find(' ');
  const std::string_view word = line.substr(0, space);
  const std::string_view rest =
      space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
  ReadyEvent event;
  if (word == "listening") {
    event.kind = Kind::kListening;
    for (absl::string_view field : absl::StrSplit(ToAbsl(rest), ' ', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> pair =
          absl::StrSplit(field, absl::MaxSplits('=', 1));
      event.fields.push_back(pair);
    }
    return event;
  }
  if (word == "loading") {
    event.kind = Kind::kLoading;
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(ToAbsl(rest), absl::MaxSplits(' ', 1));
    if (!absl::SimpleAtoi(pair.first, &event.bytes_done) ||
        !absl::SimpleAtoi(pair.second, &event.bytes_total)) {
      return std::nullopt;
    }
    return event;
  }
  if (word == "ready") return event;
  if (word == "not-ready") {
    event.kind = Kind::kNotReady;
    event.reason = std::string(rest);
    return event;
  }
  return std::nullopt;
}

void DieWithParent() {
  const pid_t parent = getppid();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have ended before the call; an orphan's parent is init or a subreaper, and a
  // container's program may rightly be a child of 1, so only a change tells.
  if (getppid() != parent) _exit(1);
}

}  // namespace mili

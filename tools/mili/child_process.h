// ChildProcess: one program started by this one, with a pipe for its log and one for what it says
// through --ready-fd. It never outlives its starter: the kernel kills it when the thread that
// started it ends, and the destructor kills and reaps it. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

namespace mili {

struct ChildSpec {
  std::string name;               // for people: "mili-worker"
  std::string path;               // of the executable
  std::vector<std::string> args;  // without argv[0] and --ready-fd
  std::vector<std::string> env;   // NAME=value
};

// How a process ended.
struct ChildEnd {
  int exit_code = 0;
  int signal = 0;  // not 0: ended by it

  bool ok() const { return signal == 0 && exit_code == 0; }
  // "exit code 1", "signal 9 (Killed)".
  std::string Describe() const;
};

class ChildProcess {
 public:
  // Its stdin is /dev/null, stdout and stderr are the log pipe, its process group is its own, so
  // that a terminal's Ctrl-C reaches the supervisor alone. NOT_FOUND or INTERNAL, naming the path.
  static absl::StatusOr<ChildProcess> Start(const ChildSpec& spec);

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  // Read ends, non-blocking; owned; -1 once closed.
  int log_fd() const { return log_fd_; }
  int ready_fd() const { return ready_fd_; }

  void CloseLog();
  void CloseReady();

  void Signal(int signal) const;
  // How it ended, once it has; never blocks.
  std::optional<ChildEnd> TryReap();

 private:
  ChildProcess(pid_t pid, int log_fd, int ready_fd)
      : pid_(pid), log_fd_(log_fd), ready_fd_(ready_fd) {}
  void KillAndClose();

  pid_t pid_ = -1;  // -1: reaped or moved from
  int log_fd_ = -1;
  int ready_fd_ = -1;
};

}  // namespace mili

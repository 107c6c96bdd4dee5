#include "tools/mili/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include <absl/strings/str_cat.h>

namespace mili {
namespace {

constexpr int kReadyFdOfChild = 3;

// A pipe of this process alone, above the numbers that a child gives its own meaning.
absl::Status OpenPipe(int (&ends)[2]) {
  int low[2];
  if (pipe2(low, O_CLOEXEC) != 0) {
    return absl::InternalError(absl::StrCat("no pipe: ", strerror(errno)));
  }
  for (int i = 0; i < 2; ++i) {
    ends[i] = fcntl(low[i], F_DUPFD_CLOEXEC, kReadyFdOfChild + 1);
    close(low[i]);
  }
  if (ends[0] < 0 || ends[1] < 0) {
    if (ends[0] >= 0) close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
    return absl::InternalError("no pipe: too many open files");
  }
  return absl::OkStatus();
}

std::vector<char*> PointersTo(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Between fork and exec of a process that may have threads: system calls only.
[[noreturn]] void BecomeChild(const char* path, char* const* argv, char* const* env, pid_t parent,
                              int log_fd, int ready_fd, int error_fd) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // the parent ended before the line above
  const int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  dup2(null_fd, STDIN_FILENO);
  dup2(log_fd, STDOUT_FILENO);
  dup2(log_fd, STDERR_FILENO);
  dup2(ready_fd, kReadyFdOfChild);
  struct sigaction default_action = {};
  default_action.sa_handler = SIG_DFL;
  sigaction(SIGPIPE, &default_action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(path, argv, env);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(error_fd, &error, sizeof(error));
  _exit(127);
}

}  // namespace

std::string ChildEnd::Describe() const {
  if (signal == 0) return absl::StrCat("exit code ", exit_code);
  return absl::StrCat("signal ", signal, " (", strsignal(signal), ")");
}

absl::StatusOr<ChildProcess> ChildProcess::Start(const ChildSpec& spec) {
  std::vector<std::string> args = {spec.path};
  args.insert(args.end(), spec.args.begin(), spec.args.end());
  args.push_back(absl::StrCat("--ready-fd=", kReadyFdOfChild));
  std::vector<std::string> env = spec.env;
  const std::vector<char*> argv_pointers = PointersTo(args);
  const std::vector<char*> env_pointers = PointersTo(env);

  int log[2];
  int ready[2];
  int error[2];
  if (absl::Status status = OpenPipe(log); !status.ok()) return status;
  if (absl::Status status = OpenPipe(ready); !status.ok()) {
    close(log[0]), close(log[1]);
    return status;
  }
  if (absl::Status status = OpenPipe(error); !status.ok()) {
    close(log[0]), close(log[1]), close(ready[0]), close(ready[1]);
    return status;
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    BecomeChild(spec.path.c_str(), argv_pointers.data(), env_pointers.data(), parent, log[1],
                ready[1], error[1]);
  }
  const int fork_error = errno;
  close(log[1]), close(ready[1]), close(error[1]);
  ChildProcess child(pid, log[0], ready[0]);
  if (pid < 0) {
    close(error[0]);
    return absl::InternalError(
        absl::StrCat("cannot start ", spec.name, ": ", strerror(fork_error)));
  }
  // Ends when exec succeeds, since the pipe is closed by it.
  int exec_error = 0;
  ssize_t num_read;
  do {
    num_read = read(error[0], &exec_error, sizeof(exec_error));
  } while (num_read < 0 && errno == EINTR);
  close(error[0]);
  if (num_read == sizeof(exec_error)) {
    return absl::NotFoundError(
        absl::StrCat("cannot start ", spec.path, ": ", strerror(exec_error)));
  }
  for (const int fd : {log[0], ready[0]}) fcntl(fd, F_SETFL, O_NONBLOCK);
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      log_fd_(std::exchange(other.log_fd_, -1)),
      ready_fd_(std::exchange(other.ready_fd_, -1)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this == &other) return *this;
  KillAndClose();
  pid_ = std::exchange(other.pid_, -1);
  log_fd_ = std::exchange(other.log_fd_, -1);
  ready_fd_ = std::exchange(other.ready_fd_, -1);
  return *this;
}

ChildProcess::~ChildProcess() { KillAndClose(); }

void ChildProcess::KillAndClose() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  CloseLog();
  CloseReady();
}

void ChildProcess::CloseLog() {
  if (log_fd_ >= 0) close(std::exchange(log_fd_, -1));
}

void ChildProcess::CloseReady() {
  if (ready_fd_ >= 0) close(std::exchange(ready_fd_, -1));
}

void ChildProcess::Signal(int signal) const {
  if (pid_ > 0) kill(pid_, signal);
}

std::optional<ChildEnd> ChildProcess::TryReap() {
  int status = 0;
  if (pid_ <= 0 || waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  if (WIFSIGNALED(status)) return ChildEnd{.signal = WTERMSIG(status)};
  return ChildEnd{.exit_code = WEXITSTATUS(status)};
}

}  // namespace mili

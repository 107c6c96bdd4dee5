#include "tools/mili/supervisor.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <absl/time/clock.h>

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/base/strings.h"

namespace mili {
namespace {

// Time, level, program, message; empty if it is no log line in text form.
std::vector<absl::string_view> PartsOf(std::string_view log_line) {
  std::vector<absl::string_view> parts = absl::StrSplit(ToAbsl(log_line), absl::MaxSplits(' ', 3));
  const bool is_log =
      parts.size() == 4 && parts[0].size() == 24 && parts[0][10] == 'T' &&
      (parts[1] == "error" || parts[1] == "warning" || parts[1] == "info" || parts[1] == "debug");
  if (!is_log) parts.clear();
  return parts;
}

// Such a line tells of daily business, not of the cause of an end.
bool IsInformation(std::string_view log_line) {
  const std::vector<absl::string_view> parts = PartsOf(log_line);
  return !parts.empty() && (parts[1] == "info" || parts[1] == "debug");
}

// "cannot bind ... (exit code 1)", as far as it is known.
std::string ReasonOf(const ChildSpec& spec, const ChildEnd& end, const std::string& last_line) {
  std::string how = end.Describe();
  if (end.signal == SIGKILL) {
    absl::StrAppend(&how, ", from outside or by the kernel for want of memory");
  }
  if (last_line.empty() || IsInformation(last_line)) return how;
  const std::string message = MessageOf(last_line);
  const std::string own_name = spec.name + ": ";
  return absl::StrCat(absl::StripPrefix(message, own_name), " (", how, ")");
}

}  // namespace

std::string MessageOf(std::string_view log_line) {
  const std::vector<absl::string_view> parts = PartsOf(log_line);
  return parts.empty() ? std::string(log_line) : std::string(parts[3]);
}

Supervisor::Supervisor(Options options, const SignalFd& signals, SupervisorObserver& observer)
    : options_(std::move(options)),
      signals_(signals),
      observer_(observer),
      stop_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC | EFD_SEMAPHORE)),
      backoff_(options_.first_backoff) {
  MILI_CHECK(stop_fd_ >= 0, "the system gives no eventfd");
}

Supervisor::~Supervisor() { close(stop_fd_); }

void Supervisor::Stop() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(stop_fd_, &one, sizeof(one));
}

absl::Status Supervisor::Run() {
  absl::Status status = Start(options_.router, router_);
  if (status.ok()) status = Loop();
  // Whoever is left ends here.
  router_.process.reset();
  worker_.process.reset();
  return status;
}

absl::Status Supervisor::Start(const ChildSpec& spec, Child& child) {
  child = Child();
  MILI_ASSIGN_OR_RETURN(child.process, ChildProcess::Start(spec));
  return absl::OkStatus();
}

absl::Status Supervisor::Loop() {
  while (!outcome_) {
    Poll();
    ReadPipes(router_, true);
    ReadPipes(worker_, false);
    for (int signal; (signal = signals_.Take()) != 0;) {
      if (signal == SIGCHLD) continue;
      if (stop_signal_ == 0) stop_signal_ = signal;
      OnStop();
    }
    uint64_t one = 0;
    while (read(stop_fd_, &one, sizeof(one)) == sizeof(one)) OnStop();
    for (const bool is_router : {true, false}) {
      Child& child = is_router ? router_ : worker_;
      if (!child.process) continue;
      const std::optional<ChildEnd> end = child.process->TryReap();
      if (!end) continue;
      ReadPipes(child, is_router);
      child.log.Finish([&](std::string_view line) {
        child.last_line = std::string(line);
        observer_.OnLogLine(line);
      });
      child.process.reset();
      is_router ? OnRouterEnd(*end) : OnWorkerEnd(*end);
    }
    OnTimers();
  }
  return *outcome_;
}

void Supervisor::Poll() {
  std::array<pollfd, 6> fds;
  nfds_t num_fds = 0;
  const auto add = [&](int fd) {
    if (fd >= 0) fds[num_fds++] = {.fd = fd, .events = POLLIN, .revents = 0};
  };
  add(signals_.fd());
  add(stop_fd_);
  for (const Child* child : {&router_, &worker_}) {
    if (!child->process) continue;
    add(child->process->log_fd());
    add(child->process->ready_fd());
  }
  const absl::Duration left = NextDeadline() - absl::Now();
  int timeout = -1;
  if (left < absl::InfiniteDuration()) {
    // Rounded up, so that the deadline has passed when poll returns.
    const absl::Duration bounded = std::clamp(left, absl::ZeroDuration(), absl::Hours(1));
    timeout = static_cast<int>(absl::ToInt64Milliseconds(bounded)) + 1;
    if (left <= absl::ZeroDuration()) timeout = 0;
  }
  poll(fds.data(), num_fds, timeout);
}

absl::Time Supervisor::NextDeadline() const {
  return std::min({restart_at_, kill_at_, observer_.NextTick()});
}

void Supervisor::ReadPipes(Child& child, bool is_router) {
  if (!child.process) return;
  std::array<char, 16 * 1024> buffer;
  const auto drain = [&](int fd, LineSplitter& splitter, auto&& on_line) {
    ssize_t num_read = 0;
    while ((num_read = read(fd, buffer.data(), buffer.size())) > 0) {
      splitter.Push(std::string_view(buffer.data(), static_cast<size_t>(num_read)), on_line);
    }
    return num_read == 0;  // the other end is closed
  };
  const bool log_ended = drain(child.process->log_fd(), child.log, [&](std::string_view line) {
    if (!line.empty()) child.last_line = std::string(line);
    observer_.OnLogLine(line);
  });
  const bool events_ended =
      drain(child.process->ready_fd(), child.events, [&](std::string_view line) {
        if (const auto event = ReadyEvent::Parse(line)) OnEvent(*event, child, is_router);
      });
  // A closed pipe is readable for ever; its process is about to end or has no more to say.
  if (log_ended) child.process->CloseLog();
  if (events_ended) child.process->CloseReady();
}

void Supervisor::OnEvent(const ReadyEvent& event, Child& child, bool is_router) {
  switch (event.kind) {
    case ReadyEvent::Kind::kListening:
      if (!is_router) return;
      observer_.OnListening(event.fields);
      if (phase_ != Phase::kRunning || worker_wanted_) return;
      worker_wanted_ = true;
      restart_at_ = absl::InfinitePast();
      return;
    case ReadyEvent::Kind::kLoading:
      if (!is_router) observer_.OnLoading(event.bytes_done, event.bytes_total);
      return;
    case ReadyEvent::Kind::kReady:
      was_ready_ = true;
      child.ready_since = absl::Now();
      if (is_router) observer_.OnReady();
      return;
    case ReadyEvent::Kind::kNotReady:
      if (is_router) observer_.OnNotReady(event.reason);
      return;
  }
}

void Supervisor::OnStop() {
  if (phase_ != Phase::kRunning) {
    return Finish(absl::CancelledError("ended at once, running requests were cut off"));
  }
  phase_ = Phase::kDraining;
  observer_.OnDraining();
  kill_at_ = absl::Now() + options_.drain_limit;
  router_.process->Signal(SIGTERM);
  // Nothing is served before the first ready, so nobody waits for a worker then.
  if (!was_ready_) worker_wanted_ = false;
}

void Supervisor::OnRouterEnd(const ChildEnd& end) {
  const std::string reason = ReasonOf(options_.router, end, router_.last_line);
  if (!end.ok() && phase_ == Phase::kRunning) {
    return Finish(absl::InternalError(absl::StrCat(options_.router.name, " ended: ", reason)));
  }
  if (router_killed_) {
    drain_status_ = absl::DeadlineExceededError(
        absl::StrCat(options_.router.name, " did not end within ",
                     absl::FormatDuration(options_.drain_limit), " and was killed"));
  } else if (!end.ok() && end.signal != SIGTERM) {  // by SIGTERM: before it could handle it
    drain_status_ = absl::InternalError(
        absl::StrCat(options_.router.name, " ended badly while draining: ", reason));
  }
  StopWorker();
}

void Supervisor::StopWorker() {
  phase_ = Phase::kStoppingWorker;
  worker_wanted_ = false;
  restart_at_ = absl::InfiniteFuture();
  kill_at_ = absl::Now() + options_.worker_stop_limit;
  if (!worker_.process) return Finish(drain_status_);
  worker_.process->Signal(SIGTERM);
}

void Supervisor::OnWorkerEnd(const ChildEnd& end) {
  if (phase_ == Phase::kStoppingWorker) return Finish(drain_status_);
  if (!worker_wanted_) return;
  const std::string reason = ReasonOf(options_.worker, end, worker_.last_line);
  if (!was_ready_) {
    ++num_failures_before_ready_;
    // Exit code 2 is a wrong setting: it will not become right.
    if (end.exit_code == 2 || num_failures_before_ready_ >= options_.max_failures_before_ready) {
      return Finish(absl::InternalError(absl::StrCat(
          options_.worker.name, " ended ",
          num_failures_before_ready_ == 1 ? std::string()
                                          : absl::StrCat(num_failures_before_ready_, " times "),
          "before it was ready: ", reason)));
    }
  }
  if (absl::Now() - worker_.ready_since >= options_.stable_after) {
    backoff_ = options_.first_backoff;
  }
  restart_at_ = absl::Now() + backoff_;
  observer_.OnWorkerLost(reason, backoff_);
  backoff_ = std::min(backoff_ * 2, options_.max_backoff);
}

void Supervisor::OnTimers() {
  const absl::Time now = absl::Now();
  if (restart_at_ <= now && worker_wanted_ && !outcome_) {
    restart_at_ = absl::InfiniteFuture();
    if (absl::Status status = Start(options_.worker, worker_); !status.ok()) Finish(status);
  }
  if (kill_at_ <= now && !outcome_) {
    kill_at_ = absl::InfiniteFuture();
    Child& child = phase_ == Phase::kDraining ? router_ : worker_;
    router_killed_ = phase_ == Phase::kDraining;
    if (child.process) child.process->Signal(SIGKILL);
  }
  if (observer_.NextTick() <= now) observer_.OnTick();
}

void Supervisor::Finish(absl::Status status) {
  if (!outcome_) outcome_ = std::move(status);
}

}  // namespace mili

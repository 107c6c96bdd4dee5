// Supervisor: runs mili-router and mili-worker as children: the router first, which binds the
// public ports, then the worker, which is started again whenever it dies. Owns both processes; runs
// in the thread that calls Run, which must outlive the children. Prints nothing: the observer does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/time/time.h>

#include "common/config/ready_pipe.h"
#include "tools/mili/child_process.h"
#include "tools/mili/line_splitter.h"
#include "tools/mili/signal_fd.h"

namespace mili {

// News, in the thread of Run.
class SupervisorObserver {
 public:
  virtual ~SupervisorObserver() = default;

  // A line that a child wrote to stdout or stderr.
  virtual void OnLogLine(std::string_view line) = 0;
  // The router's ports are bound: {"http", "127.0.0.1:8000"}, ...
  virtual void OnListening(const ReadyPipe::Fields& /*addresses*/) {}
  virtual void OnLoading(uint64_t /*bytes_done*/, uint64_t /*bytes_total*/) {}
  // The router can serve; and again after each OnNotReady.
  virtual void OnReady() {}
  virtual void OnNotReady(std::string_view /*reason*/) {}
  virtual void OnWorkerLost(std::string_view /*reason*/, absl::Duration /*restart_in*/) {}
  // A first stop was asked for.
  virtual void OnDraining() {}
  // Called at NextTick() or soon after.
  virtual absl::Time NextTick() { return absl::InfiniteFuture(); }
  virtual void OnTick() {}
};

class Supervisor {
 public:
  struct Options {
    ChildSpec router;
    ChildSpec worker;
    absl::Duration first_backoff = absl::Milliseconds(200);
    absl::Duration max_backoff = absl::Seconds(10);
    // A worker that was ready for so long starts again without a backoff left from before.
    absl::Duration stable_after = absl::Seconds(30);
    int max_failures_before_ready = 5;
    // From the first stop until the router is killed; from its end until the worker is killed.
    absl::Duration drain_limit = absl::Seconds(70);
    absl::Duration worker_stop_limit = absl::Seconds(10);
  };

  // `signals` takes SIGCHLD, and whichever of SIGINT, SIGTERM, SIGHUP shall stop the children.
  Supervisor(Options options, const SignalFd& signals, SupervisorObserver& observer);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Until both have ended. OK after a drain. CANCELLED if a second stop cut it short. Otherwise why
  // it ended, with the last line of the child that was the cause.
  absl::Status Run();

  // The first call drains, the second kills. Thread-safe.
  void Stop();

  // The signal that asked for the first stop; 0 if none did.
  int stop_signal() const { return stop_signal_; }

 private:
  enum class Phase { kRunning, kDraining, kStoppingWorker };
  struct Child {
    std::optional<ChildProcess> process;
    LineSplitter log;
    LineSplitter events;
    std::string last_line;
    absl::Time ready_since = absl::InfiniteFuture();
  };

  absl::Status Start(const ChildSpec& spec, Child& child);
  absl::Status Loop();
  void Poll();
  absl::Time NextDeadline() const;
  void ReadPipes(Child& child, bool is_router);
  void OnEvent(const ReadyEvent& event, Child& child, bool is_router);
  void OnStop();
  void OnRouterEnd(const ChildEnd& end);
  void OnWorkerEnd(const ChildEnd& end);
  void StopWorker();
  void OnTimers();
  void Finish(absl::Status status);

  const Options options_;
  const SignalFd& signals_;
  SupervisorObserver& observer_;
  int stop_fd_;  // eventfd that counts Stop()

  Phase phase_ = Phase::kRunning;
  Child router_;
  Child worker_;
  bool worker_wanted_ = false;  // from the router's binding to the end of the drain
  bool was_ready_ = false;
  bool router_killed_ = false;
  int num_failures_before_ready_ = 0;
  absl::Duration backoff_;
  absl::Time restart_at_ = absl::InfiniteFuture();
  absl::Time kill_at_ = absl::InfiniteFuture();
  int stop_signal_ = 0;
  absl::Status drain_status_;
  std::optional<absl::Status> outcome_;
};

// What a line of a log says, without time, level and program in front of it.
std::string MessageOf(std::string_view log_line);

}  // namespace mili

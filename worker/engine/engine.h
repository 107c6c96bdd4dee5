// Engine: takes plans, has them computed in order, hands the results back in order. One engine
// thread judges a plan, lays out its batch and launches it while the ones before are computed; one
// result thread waits for each step and delivers. It never knows of requests or of gRPC, nor which
// device computes.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include <absl/status/status.h>
#include <absl/time/time.h>

#include "common/base/ids.h"
#include "common/base/mailbox.h"
#include "common/core/memory_plan.h"
#include "common/core/step_plan.h"
#include "worker/device/event.h"
#include "worker/engine/slot_table.h"
#include "worker/engine/step_runner.h"
#include "worker/model/backend.h"

namespace mili::worker {

// Where an epoch's results go. Called on the engine's threads, must not block.
class ResultSink {
 public:
  virtual ~ResultSink() = default;
  // In the order of step_id.
  virtual void OnResult(StepResult result) = 0;
  // A plan broke the contract, or the engine shuts down: nothing more comes of this epoch.
  virtual void OnRefused(absl::Status status) = 0;
};

// What one step cost, for metrics.
struct StepStats {
  absl::Duration compute;
  absl::Duration idle;
  uint32_t num_tokens = 0;
  uint32_t num_rows = 0;
};

class Engine {
 public:
  struct Options {
    SlotTable::Limits limits;
    // Both are called on the result thread and may be empty: after each step, and once when the
    // device is lost, with the cause: nothing can be computed in this process any more.
    std::function<void(const StepStats&)> on_step;
    std::function<void(const absl::Status&)> on_device_lost = {};
    // The engine's own threads keep off this CPU: there the executor begins the next step while the
    // result of the last goes out, and every compute thread waits for it.
    std::optional<int> executor_cpu = {};
    // The runner prepares ahead after so long without a plan: whoever asks again as soon as he is
    // answered is not to wait for that.
    absl::Duration quiet_time = absl::Milliseconds(50);
  };
  Engine(Options options, std::unique_ptr<StepRunner> runner);
  // On the CPU. `backend` outlives the engine.
  Engine(Options options, Backend* backend);
  // Computes what is under way, delivers it, ends its threads.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Opens an epoch with every slot empty. FAILED_PRECONDITION: the epoch is not newer than the
  // last, or another one is open. Thread-safe, as are the two below.
  absl::Status Attach(Epoch epoch, std::shared_ptr<ResultSink> sink);
  // Hands a plan over. FAILED_PRECONDITION: its epoch is not the open one. RESOURCE_EXHAUSTED: far
  // more plans stand in line than any router sends.
  absl::Status Post(StepPlan plan);
  // Closes the epoch if it is open: slots are dropped, steps not begun are not computed, results
  // under way may still come.
  void Detach(Epoch epoch);

  // From now on Attach is refused with `reason`, and the router attached, if any, hears it.
  void Shutdown(absl::Status reason);

  Epoch last_epoch() const;

 private:
  struct Opened {
    Epoch epoch;
    std::shared_ptr<ResultSink> sink;
  };
  struct Closed {};
  struct Idle {};  // the last step in flight has ended
  using Message = std::variant<Opened, StepPlan, Closed, Idle>;
  // A step and who waits for it.
  struct Staged {
    Step step;
    std::shared_ptr<ResultSink> sink;
    Event free{true};
  };

  void EngineMain();
  // The next message. Once it is quiet, and until one comes, the runner prepares ahead.
  std::optional<Message> NextMessage();
  void ResultMain();
  void Submit(StepPlan plan);

  const Options options_;
  const std::unique_ptr<StepRunner> runner_;

  mutable Mutex mutex_;
  Epoch open_epoch_ MILI_GUARDED_BY(mutex_);
  Epoch last_epoch_ MILI_GUARDED_BY(mutex_);
  std::shared_ptr<ResultSink> open_sink_ MILI_GUARDED_BY(mutex_);
  absl::Status shutdown_reason_ MILI_GUARDED_BY(mutex_);  // OK while serving
  std::atomic<uint32_t> num_in_flight_{0};                // launched, not finished
  std::atomic<bool> prepares_ahead_{true};  // the runner has something left to prepare
  // The same as open_epoch_, for the runner to skip steps nobody waits for.
  std::atomic<uint64_t> live_epoch_{0};

  // Engine thread only.
  SlotTable slots_;
  Opened session_;
  size_t next_staged_ = 0;
  std::array<Staged, kNumStepBatches> staged_;

  Mailbox<Message> messages_;
  Mailbox<Staged*> launched_;  // in order
  std::thread result_thread_;
  std::thread engine_thread_;
};

}  // namespace mili::worker

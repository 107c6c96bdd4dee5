// Scheduler: decides what each step computes and what each result means. Pure: no thread, no clock,
// no gRPC, no metrics; one thread calls it and passes the time in. It never blocks, and what it has
// to say it collects until TakeEvents.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/time/time.h>

#include "common/core/request.h"
#include "common/core/step_plan.h"
#include "common/core/worker_facts.h"
#include "router/sched/options.h"
#include "router/sched/sequence.h"
#include "router/sched/state.h"

namespace mili::router {

class Scheduler {
 public:
  explicit Scheduler(SchedulerOptions options);

  // Queues a request whose key is new. With an open epoch a request that can never run
  // (INVALID_ARGUMENT) is refused and leaves no trace; without one that is found at OpenEpoch.
  absl::Status Add(RequestPtr request);

  // Every choice of a request that was never added ends with `status`.
  void Refuse(const Request& request, const absl::Status& status);

  // The unfinished choices end now: with `reason`, or with FinishReason::kStop if it is OK. Unknown
  // keys are passed over here and below; false then.
  bool Cancel(RequestKey key, const absl::Status& reason);
  bool FinishChoice(RequestKey key, uint32_t choice_idx);
  // As Cancel, with FinishReason::kAbort.
  bool Abort(RequestKey key);

  // Ends every request with `status`.
  void FailAll(const absl::Status& status);

  // The next step to send, if there is one to compute and the run-ahead depth allows it.
  std::optional<StepPlan> Next(absl::Time now);

  // The outcome of the oldest step in flight. A result of another epoch is dropped. INTERNAL: it
  // breaks the contract; nothing has changed, and the caller should give the epoch up.
  absl::Status Apply(StepResult result, absl::Time now);

  // A group is attached: all its slots are empty, all its pages free. `facts` are sane
  // (CheckFacts). Requests that cannot run there fail.
  void OpenEpoch(Epoch epoch, const WorkerFacts& facts);
  // The group is gone with all it held. Every sequence that had begun restarts from the front of
  // the queue; a request that was in a lost step for the second time fails with INTERNAL, reason
  // REQUEST_LOST_TWICE. Nothing happens if no epoch is open.
  void LoseEpoch(absl::Time now);

  // Ends what is past its deadline. `retry_after`: the hint for those the queue kept too long.
  void Expire(absl::Time now, absl::Duration retry_after);
  absl::Time next_deadline() const;

  // Everything that happened since the last call, in order.
  std::vector<TokenEvent> TakeEvents();
  // The latest state of each request that changed since the last call.
  std::vector<RequestProgress> TakeNews();

  // Takes every unfinished request out, between epochs only, so that another scheduler can adopt
  // them: their tokens and counts go with them.
  std::vector<std::unique_ptr<RequestRecord>> TakeRequests();
  void Adopt(std::unique_ptr<RequestRecord> record);

  // Keys of the waiting requests, next first.
  std::vector<RequestKey> WaitingRequests() const;
  bool is_idle() const { return state_.requests.empty(); }
  uint32_t num_steps_in_flight() const { return static_cast<uint32_t>(state_.in_flight.size()); }
  const SchedulerState& state() const { return state_; }

 private:
  SchedulerState state_;
};

// Whether a worker with sane facts could ever run the request; INVALID_ARGUMENT if not.
absl::Status CheckFits(const SchedulerOptions& options, const WorkerFacts& facts,
                       const Request& request);

// FAILED_PRECONDITION if a worker's facts cannot be scheduled with (a zero size, a context that
// does not fit the pages).
absl::Status CheckFacts(const WorkerFacts& facts);

}  // namespace mili::router

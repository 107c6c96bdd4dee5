// Applying: what a step's result changes. Checked as a whole before anything changes, since it
// comes from another process. Functions over SchedulerState.
#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include "router/sched/state.h"

namespace mili::router {

// Whether `result` answers the oldest step in flight as worker.proto says: that step_id, rows in
// the plan's order, one token in range for each row that samples, the prompt logprobs asked for.
// INTERNAL, naming the step, slot and rule: the worker cannot be trusted any more.
absl::Status CheckResult(const SchedulerState& state, const StepResult& result);

// Moves counters, emits events, lets pages go. `result` has passed CheckResult.
void ApplyResult(SchedulerState& state, StepResult result, absl::Time now);

}  // namespace mili::router

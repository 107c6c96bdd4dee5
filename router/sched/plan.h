// Planning: which rows the next step has. Decodes first, then chunks of prompts under way, then
// admissions, under one token budget. Functions over SchedulerState.
#pragma once

#include <optional>

#include <absl/time/time.h>

#include "router/sched/state.h"

namespace mili::router {

// The next step, entered into state.in_flight; nothing if as many steps as the run-ahead depth
// allows are in flight, or if there is nothing to compute. May preempt.
std::optional<StepPlan> PlanStep(SchedulerState& state, absl::Time now);

}  // namespace mili::router

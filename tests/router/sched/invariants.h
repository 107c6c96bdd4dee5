// What must hold of a scheduler's state after every event.
#pragma once

#include <optional>
#include <string>

#include "router/sched/state.h"

namespace mili::router::testing {

// The first invariant that does not hold, as a sentence.
std::optional<std::string> FindBrokenInvariant(const SchedulerState& state);

}  // namespace mili::router::testing

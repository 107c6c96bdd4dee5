// Self-check: the chosen kernels against the reference on this very machine, on random shapes.
#pragma once

#include <absl/status/status.h>

#include "worker/program/settings.h"

namespace mili::worker {

// Prints an ok or fail line a check on stdout. INTERNAL if any failed.
absl::Status RunSelfCheck(const Settings& settings);

}  // namespace mili::worker

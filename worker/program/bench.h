// Bench: the engine driven in this process, without router, gRPC or text: what the serving path is
// measured against.
#pragma once

#include <absl/status/status.h>

#include "worker/program/settings.h"

namespace mili::worker {

// Prints a table, or one JSON object with --json, on stdout.
absl::Status RunBench(const Settings& settings);

}  // namespace mili::worker

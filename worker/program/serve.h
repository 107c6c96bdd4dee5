// Serve: the life of a serving worker: bind, load, serve until a signal, end in order.
#pragma once

#include <absl/status/status.h>

#include "worker/program/settings.h"

namespace mili::worker {

// Returns OK after SIGTERM (or SIGINT); otherwise why it could not serve. Blocks these signals in
// the calling thread and all it starts.
absl::Status Serve(const Settings& settings);

}  // namespace mili::worker

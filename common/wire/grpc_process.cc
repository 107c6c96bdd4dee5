#include "common/wire/grpc_process.h"

#include <cstdlib>

#include <absl/synchronization/mutex.h>

namespace mili {

void PrepareGrpc() {
  // Its lines would come after the cause that a failure ends with.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  // Debian builds Abseil with its debug checks: every lock that gRPC takes would be entered into a
  // graph of who waits for whom.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace mili

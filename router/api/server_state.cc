#include "router/api/server_state.h"

namespace mili::router {

absl::Status ServerState::Health() const {
  std::string reason = "no worker is configured";
  for (const GroupSnapshot& group : engine_->Groups()) {
    if (group.is_ready && !group.is_step_overdue) return absl::OkStatus();
    reason = group.is_step_overdue ? "a step is overdue" : group.not_ready_reason;
    if (reason.empty()) reason = "no worker is attached yet";
  }
  return absl::UnavailableError(reason);
}

absl::Status ServerState::Ready() const {
  if (draining_) return absl::UnavailableError("the server is draining");
  if (absl::Status health = Health(); !health.ok()) return health;
  for (const GroupSnapshot& group : engine_->Groups()) {
    if (group.is_ready && group.has_produced_token) return absl::OkStatus();
  }
  return absl::UnavailableError("no token has come out yet");
}

}  // namespace mili::router

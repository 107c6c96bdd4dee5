// GrpcGroupClient: GroupClient over the Worker service. One thread of its own runs the life of the
// connection (connect, describe, attach, back off); plans and results pass it by, on gRPC's
// threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "common/core/tokenizer_bundle.h"
#include "router/dispatch/group_client.h"

namespace mili::router {

struct GrpcGroupOptions {
  // "host:port" or "unix:/path" of each rank; one for now (TP 1).
  std::vector<std::string> addresses;
  // Told to the worker for its log.
  std::string router_name = "mili-router";
  absl::Duration min_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(1);
  // From opening the stream to the worker's `attached`.
  absl::Duration attach_timeout = absl::Seconds(10);
  // Longest that loading may take before Describe is asked again.
  absl::Duration describe_timeout = absl::Hours(1);
};

// INVALID_ARGUMENT: no address; UNIMPLEMENTED: more than one. Connects to nothing before Start.
absl::StatusOr<std::unique_ptr<GroupClient>> MakeGrpcGroupClient(GrpcGroupOptions options);

// The tokenizer of the worker at `address`; waits for it to be there and loaded until `timeout`.
// NOT_FOUND: the model has none. DATA_LOSS: the digest does not fit. Blocks.
absl::StatusOr<TokenizerBundle> FetchTokenizer(const std::string& address, absl::Duration timeout);

}  // namespace mili::router

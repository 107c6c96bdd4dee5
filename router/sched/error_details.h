// google.rpc details on absl::Status, for code that links neither protobuf nor gRPC. The payloads
// are the serialised messages under their type URLs, as common/wire reads them.
#pragma once

#include <string_view>

#include <absl/status/status.h>
#include <absl/time/time.h>

namespace mili::router {

// Attaches google.rpc.RetryInfo{retry_delay}; negative delays count as zero.
absl::Status WithRetryDelay(absl::Status status, absl::Duration retry_delay);

// Attaches google.rpc.ErrorInfo{reason, domain "mili"}.
absl::Status WithErrorReason(absl::Status status, std::string_view reason);

}  // namespace mili::router

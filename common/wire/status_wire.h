// absl::Status <-> grpc::Status, the one place where they convert. google.rpc details ride on
// absl::Status as payloads under their type URLs and on gRPC as grpc-status-details-bin.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <absl/time/time.h>
#include <grpcpp/support/status.h>

namespace mili {

grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

// INVALID_ARGUMENT "field: description" with BadRequest naming the field.
absl::Status BadField(std::string_view field, std::string_view description);
// The same status with RetryInfo / ErrorInfo{reason, domain "mili", metadata} attached.
absl::Status WithRetryInfo(absl::Status status, absl::Duration retry_after);
absl::Status WithReason(absl::Status status, std::string_view reason,
                        const std::vector<std::pair<std::string, std::string>>& metadata = {});

// What the details say; nothing where they are absent.
std::optional<std::string> FieldOf(const absl::Status& status);
std::optional<absl::Duration> RetryAfterOf(const absl::Status& status);
std::optional<std::string> ReasonOf(const absl::Status& status);

}  // namespace mili

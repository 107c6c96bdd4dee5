#include "common/wire/status_wire.h"

#include <google/protobuf/any.pb.h>

#include "common/base/strings.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace mili {
namespace {

constexpr std::string_view kTypePrefix = "type.googleapis.com/";
constexpr char kDomain[] = "mili";
// What a peer may make us keep of an error; gRPC's own metadata limit is 16 KiB.
constexpr int kMaxDetails = 16;

template <typename Detail>
std::string TypeUrl() {
  return std::string(kTypePrefix) + Detail::descriptor()->full_name();
}

template <typename Detail>
absl::Status WithDetail(absl::Status status, const Detail& detail) {
  if (!status.ok()) status.SetPayload(TypeUrl<Detail>(), absl::Cord(detail.SerializeAsString()));
  return status;
}

template <typename Detail>
std::optional<Detail> DetailOf(const absl::Status& status) {
  const auto payload = status.GetPayload(TypeUrl<Detail>());
  Detail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(std::string(status.message()));
  status.ForEachPayload([&details](absl::string_view type_url, const absl::Cord& payload) {
    google::protobuf::Any* any = details.add_details();
    any->set_type_url(std::string(type_url));
    any->set_value(std::string(payload));
  });
  // Without details the trailer would only repeat code and message.
  const std::string bytes = details.details_size() > 0 ? details.SerializeAsString() : "";
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      bytes);
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // Codes are the same numbers in both; one that absl does not know is UNKNOWN.
  const int code = static_cast<int>(status.error_code());
  const auto absl_code =
      code >= 1 && code <= 16 ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
  absl::Status result(absl_code, status.error_message());
  google::rpc::Status details;
  if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
    for (int i = 0; i < details.details_size() && i < kMaxDetails; ++i) {
      const google::protobuf::Any& any = details.details(i);
      result.SetPayload(any.type_url(), absl::Cord(any.value()));
    }
  }
  return result;
}

absl::Status BadField(std::string_view field, std::string_view description) {
  google::rpc::BadRequest detail;
  auto* violation = detail.add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(std::string(description));
  return WithDetail(
      absl::InvalidArgumentError(std::string(field) + ": " + std::string(description)), detail);
}

absl::Status WithRetryInfo(absl::Status status, absl::Duration retry_after) {
  google::rpc::RetryInfo detail;
  const absl::Duration wait =
      retry_after > absl::ZeroDuration() ? retry_after : absl::ZeroDuration();
  const int64_t seconds = absl::ToInt64Seconds(wait);
  detail.mutable_retry_delay()->set_seconds(seconds);
  detail.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(wait - absl::Seconds(seconds))));
  return WithDetail(std::move(status), detail);
}

absl::Status WithReason(absl::Status status, std::string_view reason,
                        const std::vector<std::pair<std::string, std::string>>& metadata) {
  google::rpc::ErrorInfo detail;
  detail.set_reason(std::string(reason));
  detail.set_domain(kDomain);
  for (const auto& [key, value] : metadata) (*detail.mutable_metadata())[key] = value;
  return WithDetail(std::move(status), detail);
}

std::optional<std::string> FieldOf(const absl::Status& status) {
  const auto detail = DetailOf<google::rpc::BadRequest>(status);
  if (!detail.has_value() || detail->field_violations_size() == 0) return std::nullopt;
  return detail->field_violations(0).field();
}

std::optional<absl::Duration> RetryAfterOf(const absl::Status& status) {
  const auto detail = DetailOf<google::rpc::RetryInfo>(status);
  if (!detail.has_value() || !detail->has_retry_delay()) return std::nullopt;
  return absl::Seconds(detail->retry_delay().seconds()) +
         absl::Nanoseconds(detail->retry_delay().nanos());
}

std::optional<std::string> ReasonOf(const absl::Status& status) {
  const auto detail = DetailOf<google::rpc::ErrorInfo>(status);
  if (!detail.has_value()) return std::nullopt;
  return detail->reason();
}

}  // namespace mili

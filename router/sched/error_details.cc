#include "router/sched/error_details.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include <absl/strings/cord.h>

#include "common/base/strings.h"

namespace mili::router {
namespace {

// Protocol Buffers encoding: base-128 varints, and fields of wire types 0 (varint) and 2 (length).
void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void AppendVarintField(int number, uint64_t value, std::string& out) {
  if (value == 0) return;
  AppendVarint(static_cast<uint64_t>(number) << 3, out);
  AppendVarint(value, out);
}

void AppendBytesField(int number, std::string_view bytes, std::string& out) {
  AppendVarint(static_cast<uint64_t>(number) << 3 | 2, out);
  AppendVarint(bytes.size(), out);
  out.append(bytes);
}

}  // namespace

absl::Status WithRetryDelay(absl::Status status, absl::Duration retry_delay) {
  retry_delay = std::clamp(retry_delay, absl::ZeroDuration(), absl::Hours(24));
  std::string duration;
  AppendVarintField(1, static_cast<uint64_t>(absl::ToInt64Seconds(retry_delay)), duration);
  AppendVarintField(2, static_cast<uint64_t>(absl::ToInt64Nanoseconds(retry_delay) % 1'000'000'000),
                    duration);
  std::string info;
  AppendBytesField(1, duration, info);
  status.SetPayload("type.googleapis.com/google.rpc.RetryInfo", absl::Cord(info));
  return status;
}

absl::Status WithErrorReason(absl::Status status, std::string_view reason) {
  std::string info;
  AppendBytesField(1, reason, info);
  AppendBytesField(2, "mili", info);
  status.SetPayload("type.googleapis.com/google.rpc.ErrorInfo", absl::Cord(info));
  return status;
}

}  // namespace mili::router

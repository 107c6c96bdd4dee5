// Budget: what one render may spend, so that no template or conversation can take the server.
// One render, one thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

namespace mili::router::jinja {

struct Limits {
  int64_t max_steps = 20'000'000;
  // Of all strings and lists made on the way, the output among them.
  int64_t max_bytes = 256 << 20;
  // Nested evaluation: expressions in blocks in macros. Each level takes stack.
  int max_depth = 200;
  int64_t max_range = 100'000;
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}

  const Limits& limits() const { return limits_; }

  // INVALID_ARGUMENT once they are used up.
  absl::Status Steps(int64_t num_steps) {
    steps_ += num_steps;
    if (steps_ <= limits_.max_steps) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("the template took more than ", limits_.max_steps, " steps"));
  }
  // Before the memory is taken. Sixteen bytes cost a step as well.
  absl::Status Bytes(size_t num_bytes) {
    const auto max_bytes = static_cast<uint64_t>(limits_.max_bytes);
    if (num_bytes > max_bytes || bytes_ + num_bytes > max_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("the template made more than ", limits_.max_bytes, " bytes of text"));
    }
    bytes_ += num_bytes;
    return Steps(1 + static_cast<int64_t>(num_bytes / 16));
  }

 private:
  const Limits limits_;
  int64_t steps_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace mili::router::jinja

#include "common/core/plan_limits.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "common/base/status_macros.h"

namespace mili {
namespace {

constexpr uint32_t kMaxSeqs = 4096;

}  // namespace

std::string Mib(uint64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

absl::Status CheckLimit(const char* name, uint64_t value, uint64_t max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, "; expected 1 to ", max));
}

absl::Status CheckBatchLimits(const ModelConfig& config, const BatchLimits& limits,
                              uint32_t most_batched_tokens) {
  MILI_RETURN_IF_ERROR(CheckLimit("max-num-seqs", limits.max_num_seqs, kMaxSeqs));
  MILI_RETURN_IF_ERROR(
      CheckLimit("max-num-batched-tokens", limits.max_num_batched_tokens, most_batched_tokens));
  if (limits.max_num_batched_tokens < limits.max_num_seqs) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max-num-batched-tokens is ", limits.max_num_batched_tokens, ", less than max-num-seqs, ",
        limits.max_num_seqs, ": a step could not hold one token of each sequence"));
  }
  if (limits.max_model_len > config.max_position) {
    return absl::InvalidArgumentError(absl::StrCat("max-model-len is ", limits.max_model_len,
                                                   "; the model was made for at most ",
                                                   config.max_position));
  }
  return absl::OkStatus();
}

}  // namespace mili

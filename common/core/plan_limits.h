// What the memory plans of CPUs and GPUs share: their checks of limits, and how sizes are written.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <string>

#include <absl/status/status.h>

#include "common/core/model_config.h"

namespace mili {

inline uint64_t DivideUp(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

// "12.3 MiB".
std::string Mib(uint64_t bytes);

// INVALID_ARGUMENT, naming the flag, unless `value` lies within [1, max].
absl::Status CheckLimit(const char* name, uint64_t value, uint64_t max);

struct BatchLimits {
  uint32_t max_model_len;  // 0: the model's own
  uint32_t max_num_seqs;
  uint32_t max_num_batched_tokens;
};
// INVALID_ARGUMENT if one is out of bounds, or if they contradict each other or the model.
absl::Status CheckBatchLimits(const ModelConfig& config, const BatchLimits& limits,
                              uint32_t most_batched_tokens);

}  // namespace mili

// The ranges that worker.proto gives for SamplingParams. Pure.
#pragma once

#include <cstdint>

#include <absl/status/status.h>

#include "common/core/sampling_params.h"

namespace mili::worker {

// The most alternatives a token can be asked for.
inline constexpr uint32_t kMaxTopLogprobs = 1024;

// INVALID_ARGUMENT naming the field, its value and what is allowed.
absl::Status CheckSampling(const SamplingParams& sampling, uint32_t vocab_size);

}  // namespace mili::worker

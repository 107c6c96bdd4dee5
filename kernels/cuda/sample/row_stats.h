// What the scan leaves of a row for the draw: numbers of each group of 128 ids.
#pragma once

#include <cstdint>

namespace mili::kernels::cuda {

// Views of the workspace; [num_rows, stride] each.
struct RowStats {
  float* max;      // largest edited logit; NaN if a raw one is
  float* sum;      // of exp((edited - max) / temperature), where the row needs it
  float* raw_max;  // of raw logits, where the row wants logprobs or is scored
  float* raw_sum;  // of exp(raw - raw_max); the number of infinities if raw_max is one
  int32_t stride;  // groups of a row, rounded up to 4
};

inline constexpr int kNumRowStats = 4;

}  // namespace mili::kernels::cuda

// Where a kernel puts rows quantised to fp8 (e4m3) instead of, or beside, its 16-bit output.
#pragma once

#include <cstdint>

namespace mili::kernels::cuda {

// Row t is values[t] * scales[t] with scales[t] = amax(row t) / 448 (1 for a row of zeros), values
// rounded to the nearest e4m3. A NaN or infinity in a row makes its scale one, too.
struct Fp8Rows {
  uint8_t* values = nullptr;  // [num_tokens, size], contiguous, 16-aligned; null: no fp8 output
  float* scales = nullptr;    // [num_tokens]
};

}  // namespace mili::kernels::cuda

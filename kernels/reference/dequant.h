// Turns stored weights into fp32, one row or part of a row at a time. Every kernel that needs plain
// values of a quantised weight goes through here; the layouts are GGUF's (ggml block formats).
// Any thread; no state, never reads outside the blocks it was given.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/base/dtype.h"

namespace mili::kernels {

// out[0, num_elements) = the values stored at `blocks`. num_elements is a multiple of the dtype's
// block; `blocks` needs no alignment.
void Dequantize(DType dtype, const std::byte* blocks, int64_t num_elements, float* out);

}  // namespace mili::kernels

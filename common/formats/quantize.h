// Encoders of GGUF's quantised blocks, for weights that are quantised while they are read. Pure;
// any thread. Values must be finite, of a size that a half can hold.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/base/dtype.h"

namespace mili {

// Types that QuantizeRow writes.
constexpr bool CanQuantizeTo(DType dtype) { return dtype == DType::kQ8_0 || dtype == DType::kQ4_K; }

// Writes RowBytes(dtype, num_elements) bytes; num_elements is a multiple of the type's block.
//   Q8_0: d = largest magnitude / 127, to nearest.
//   Q4_K: of each 32 values a scale and a minimum that keep the squared error small, found by
//   trying steps around (max - min) / 15 with a least-squares fit each; both then as 6 bits of the
//   largest of the 8 sub-blocks.
void QuantizeRow(DType dtype, const float* values, uint64_t num_elements, std::byte* blocks);

}  // namespace mili

// Turns stored weights into fp32, one row or part of a row at a time. Every kernel that needs plain
// values of a quantised weight goes through here; the layouts are GGUF's (ggml block formats).
// Any thread; no state, never reads outside the blocks it was given.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "common/base/dtype.h"

namespace mili::kernels {

// out[0, num_elements) = the values stored at `blocks`. num_elements is a multiple of the dtype's
// block; `blocks` needs no alignment.
void Dequantize(DType dtype, const std::byte* blocks, int64_t num_elements, float* out);

// IEEE half to float without branches, so that loops over it vectorise.
inline float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13;
  // The half's exponent is 112 lower than the float's; the product also renormalises subnormals.
  const float value = std::bit_cast<float>(magnitude) * 0x1p112f;
  const uint32_t special = magnitude >= 0x0f800000 ? 0x7f800000u : 0u;  // inf, NaN
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | special | sign);
}

inline float Bf16ToFloat(uint16_t bf16) {
  return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16);
}

// To nearest, ties to even; a NaN stays a NaN.
inline uint16_t FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace mili::kernels

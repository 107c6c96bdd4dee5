// Activations as int8: blocks of 32 with one fp32 scale, amax / 127, and the sums that weight types
// with an offset or a minimum need.
#pragma once

#include "kernels/cpu/vec.h"

namespace mili::kernels {
namespace {

// One token's activations in the workspace. K is rounded up to 32.
struct QuantizedRow {
  const int8_t* q;       // [K]
  const float* scale;    // [K / 32]
  const float* sum;      // [K / 32], scale * sum32
  const int32_t* sum32;  // [K / 32]
  const int32_t* sum16;  // [K / 16]
};

MILI_INLINE int64_t QuantizedRowBytes(int64_t k) {
  const int64_t blocks = (k + 31) / 32;
  return (blocks * (32 + 5 * 4) + 63) / 64 * 64;
}

MILI_INLINE QuantizedRow RowAt(const std::byte* workspace, int64_t row, int64_t k) {
  const int64_t blocks = (k + 31) / 32;
  const auto* base = reinterpret_cast<const int8_t*>(workspace) + row * QuantizedRowBytes(k);
  const auto* floats = reinterpret_cast<const float*>(base + blocks * 32);
  const auto* ints = reinterpret_cast<const int32_t*>(floats + 2 * blocks);
  return {base, floats, floats + blocks, ints, ints + blocks};
}

// A block with a NaN or an infinity gets the scale NaN, so that its row fails alone and visibly.
template <typename Isa>
void QuantizeRow(const float* x, int64_t k, const QuantizedRow& row) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  constexpr int kVectors = 32 / Isa::kLanes;
  for (int64_t b = 0; b < k / 32; ++b, x += 32) {
    I largest = {};
    for (int i = 0; i < kVectors; ++i) {
      const I bits = LoadAs<I>(x + i * Isa::kLanes) & 0x7fffffff;
      largest = bits > largest ? bits : largest;  // as integers a NaN is above all
    }
    int32_t lanes[Isa::kLanes], max_bits = 0;
    StoreAs(lanes, largest);
    for (int i = 0; i < Isa::kLanes; ++i) max_bits = lanes[i] > max_bits ? lanes[i] : max_bits;
    const bool is_finite = max_bits < 0x7f800000;
    float max;
    __builtin_memcpy(&max, &max_bits, sizeof(max));
    const float scale = is_finite ? max / 127.0f : __builtin_nanf("");
    // Below 1e-36 the inverse would overflow: such a block is 0.
    const float inverse = is_finite && max > 1e-36f ? 127.0f / max : 0.0f;
    auto* q = const_cast<int8_t*>(row.q) + 32 * b;
    int32_t rounded[32];
    for (int i = 0; i < kVectors; ++i) {
      const F shifted = (is_finite ? LoadF<Isa>(x + i * Isa::kLanes) : F{}) * inverse + 12582912.0f;
      StoreAs(rounded + i * Isa::kLanes, reinterpret_cast<I>(shifted) - 0x4B400000);
    }
    int32_t sums[2] = {};
    for (int i = 0; i < 32; ++i) {
      q[i] = static_cast<int8_t>(rounded[i]);
      sums[i / 16] += rounded[i];
    }
    const_cast<float*>(row.scale)[b] = scale;
    const_cast<int32_t*>(row.sum16)[2 * b] = sums[0];
    const_cast<int32_t*>(row.sum16)[2 * b + 1] = sums[1];
    const_cast<int32_t*>(row.sum32)[b] = sums[0] + sums[1];
    const_cast<float*>(row.sum)[b] = scale * static_cast<float>(sums[0] + sums[1]);
  }
}

}  // namespace
}  // namespace mili::kernels

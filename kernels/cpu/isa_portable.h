// Any 64-bit machine: 4 lanes of the compiler's own vector types (SSE2, NEON).
#pragma once

#include "kernels/cpu/vec.h"

namespace mili::kernels {
namespace {

struct Isa {
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  static constexpr int kLanes = 4;
  static constexpr int kTokenTile = 4;
  static constexpr int kFloatRows = 2;
  static constexpr int kFloatTokens = 4;
  static constexpr int kSignedOffset = 0;

  // Rounded twice: there may be no fused operation.
  static MILI_INLINE F Fma(F a, F b, F c) { return a * b + c; }
  static MILI_INLINE float ReduceAdd(F v) { return (v[0] + v[2]) + (v[1] + v[3]); }
  static MILI_INLINE float ReduceMax(F v) {
    const float a = v[0] > v[1] ? v[0] : v[1];
    const float b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
  }
  static MILI_INLINE F ReduceRows(const F* rows) {
    return F{ReduceAdd(rows[0]), ReduceAdd(rows[1]), ReduceAdd(rows[2]), ReduceAdd(rows[3])};
  }

  static MILI_INLINE I Load16(const void* p) {
    uint16_t v[4];
    __builtin_memcpy(v, p, sizeof(v));
    return I{v[0], v[1], v[2], v[3]};
  }
  static MILI_INLINE F LoadHalf(const void* p) { return HalfOfLow16(Load16(p)); }
  static MILI_INLINE F LoadBf16(const void* p) { return reinterpret_cast<F>(Load16(p) << 16); }
  static MILI_INLINE void StoreBf16(void* p, F v) {
    const I bits = reinterpret_cast<I>(v);
    const I rounded = bits + (((bits >> 16) & 1) + 0x7fff);
    const I result = v != v ? (bits | 0x400000) : rounded;
    uint16_t out[4];
    for (int i = 0; i < 4; ++i) out[i] = static_cast<uint16_t>(result[i] >> 16);
    __builtin_memcpy(p, out, sizeof(out));
  }
  static MILI_INLINE F HalfOfLow16(I v) {
    const I magnitude = (v & 0x7fff) << 13;
    const F value = reinterpret_cast<F>(magnitude) * 0x1p112f;  // renormalises subnormals too
    const I special = (magnitude >= 0x0f800000) & 0x7f800000;
    return reinterpret_cast<F>(reinterpret_cast<I>(value) | special | ((v & 0x8000) << 16));
  }

  static MILI_INLINE I LoadDwords(const uint8_t* base, int64_t stride) {
    return I{LoadAs<int32_t>(base), LoadAs<int32_t>(base + stride),
             LoadAs<int32_t>(base + 2 * stride), LoadAs<int32_t>(base + 3 * stride)};
  }
  static MILI_INLINE void Transpose16(const uint8_t* base, int64_t stride, I* out) {
    for (int j = 0; j < 4; ++j) out[j] = LoadDwords(base + 4 * j, stride);
  }

  // Byte products in 16 bits; pairs of them are added in 32.
  static MILI_INLINE I Dot(I sum, I w, int32_t x) {
    const int32_t x0 = static_cast<int8_t>(x), x1 = static_cast<int8_t>(x >> 8);
    const int32_t x2 = static_cast<int8_t>(x >> 16), x3 = x >> 24;
    return sum + (w & 255) * x0 + ((w >> 8) & 255) * x1 + ((w >> 16) & 255) * x2 +
           ((w >> 24) & 255) * x3;
  }
  static MILI_INLINE I DotSigned(I sum, I w, int32_t x) {
    const int32_t x0 = static_cast<int8_t>(x), x1 = static_cast<int8_t>(x >> 8);
    const int32_t x2 = static_cast<int8_t>(x >> 16), x3 = x >> 24;
    return sum + ((w << 24) >> 24) * x0 + ((w << 16) >> 24) * x1 + ((w << 8) >> 24) * x2 +
           (w >> 24) * x3;
  }
};

}  // namespace
}  // namespace mili::kernels

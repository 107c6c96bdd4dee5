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
  static constexpr int kSignedOffset = 0;
  static constexpr bool kHasWordDot = false;

  // Rounded twice: there may be no fused operation.
  static MILI_INLINE F Fma(F a, F b, F c) { return a * b + c; }
  static MILI_INLINE float ReduceAdd(F v) { return (v[0] + v[2]) + (v[1] + v[3]); }
  static MILI_INLINE float ReduceMax(F v) {
    const float a = v[0] > v[1] ? v[0] : v[1];
    const float b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
  }
  static MILI_INLINE int32_t ReduceMaxInt(I v) {
    const int32_t a = v[0] > v[1] ? v[0] : v[1];
    const int32_t b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
  }
  static MILI_INLINE int32_t ReduceAddInt(I v) { return v[0] + v[1] + v[2] + v[3]; }
  static MILI_INLINE I Load16(const void* p) {
    uint16_t v[4];
    __builtin_memcpy(v, p, sizeof(v));
    return I{v[0], v[1], v[2], v[3]};
  }
  static MILI_INLINE F LoadHalf(const void* p) { return HalfOfLow16(Load16(p)); }
  static MILI_INLINE F LoadBf16(const void* p) { return reinterpret_cast<F>(Load16(p) << 16); }
  static MILI_INLINE void StoreBf16(void* p, F v) {
    const I result = RoundToBf16<I>(v);
    uint16_t out[4];
    for (int i = 0; i < 4; ++i) out[i] = static_cast<uint16_t>(result[i] >> 16);
    __builtin_memcpy(p, out, sizeof(out));
  }
  static MILI_INLINE void StoreBytes(int8_t* p, I v) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(v[i]);
  }
  static MILI_INLINE F HalfOfLow16(I v) {
    const I magnitude = (v & 0x7fff) << 13;
    const F value = reinterpret_cast<F>(magnitude) * 0x1p112f;  // renormalises subnormals too
    const I special = (magnitude >= 0x0f800000) & 0x7f800000;
    return reinterpret_cast<F>(reinterpret_cast<I>(value) | special | ((v & 0x8000) << 16));
  }

  // Two products of bytes and their sum fit 16 bits: 2 * 128 * 127 < 2^15. `even` holds bytes 0 and
  // 2 of each dword as 16-bit lanes, `odd` bytes 1 and 3.
  typedef int16_t S __attribute__((vector_size(16)));
  static MILI_INLINE I AddProducts(I sum, S even, S odd, int32_t x) {
    const int32_t x02 =
        (static_cast<int8_t>(x) & 0xffff) |
        static_cast<int32_t>(static_cast<uint32_t>(static_cast<int8_t>(x >> 16)) << 16);
    const int32_t x13 = (static_cast<int8_t>(x >> 8) & 0xffff) |
                        static_cast<int32_t>(static_cast<uint32_t>(x >> 24) << 16);
    const S products = even * reinterpret_cast<S>(I{} + x02) + odd * reinterpret_cast<S>(I{} + x13);
    const I pairs = reinterpret_cast<I>(products);
    return sum + ((pairs << 16) >> 16) + (pairs >> 16);
  }
  static MILI_INLINE I Dot(I sum, I w, int32_t x) {
    return AddProducts(sum, reinterpret_cast<S>(w & 0x00ff00ff),
                       reinterpret_cast<S>((w >> 8) & 0x00ff00ff), x);
  }
  static MILI_INLINE I DotSigned(I sum, I w, int32_t x) {
    const S v = reinterpret_cast<S>(w);
    return AddProducts(sum, (v << 8) >> 8, v >> 8, x);
  }
};

}  // namespace
}  // namespace mili::kernels

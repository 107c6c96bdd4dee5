// 64-bit ARM with the dot product instructions (ARMv8.2 and later, DotProd): 4 lanes of NEON.
#pragma once

#include <arm_neon.h>

#include "kernels/cpu/vec.h"

namespace mili::kernels {
namespace {

struct Isa {
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
  static constexpr int kLanes = 4;
  static constexpr int kTokenTile = 4;  // with more, g++ 12 spills
  static constexpr int kSignedOffset = 0;
  static constexpr bool kHasWordDot = false;

  static MILI_INLINE F Fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static MILI_INLINE float ReduceAdd(F v) { return vaddvq_f32(v); }
  static MILI_INLINE float ReduceMax(F v) {
    const float a = v[0] > v[1] ? v[0] : v[1];
    const float b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
  }
  static MILI_INLINE int32_t ReduceMaxInt(I v) { return vmaxvq_s32(v); }
  static MILI_INLINE int32_t ReduceAddInt(I v) { return vaddvq_s32(v); }

  static MILI_INLINE F LoadHalf(const void* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(static_cast<const uint16_t*>(p))));
  }
  static MILI_INLINE F LoadBf16(const void* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(static_cast<const uint16_t*>(p)), 16));
  }
  static MILI_INLINE void StoreBf16(void* p, F v) {
    const I result = RoundToBf16<I>(v);
    vst1_u16(static_cast<uint16_t*>(p), vshrn_n_u32(reinterpret_cast<uint32x4_t>(result), 16));
  }
  static MILI_INLINE void StoreBytes(int8_t* p, I v) {
    const int16x4_t halves = vmovn_s32(v);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
    StoreAs(p, vget_lane_s32(vreinterpret_s32_s8(bytes), 0));
  }
  static MILI_INLINE F HalfOfLow16(I v) { return vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32(v))); }

  // Bytes below 128 are the same signed.
  static MILI_INLINE I Dot(I sum, I w, int32_t x) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(vdupq_n_s32(x)));
  }
  static MILI_INLINE I DotSigned(I sum, I w, int32_t x) { return Dot(sum, w, x); }
};

}  // namespace
}  // namespace mili::kernels

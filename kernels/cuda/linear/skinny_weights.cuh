// How the skinny kernel's fragments are made: 16 bytes of a weight row (8 elements of 16 bits, or
// 16 of fp8) against the same elements of a token.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/linear/skinny_args.h"

namespace mili::kernels::cuda {

template <typename ElementType>
struct Weights16 {
  using Element = ElementType;
  static constexpr int kBytes = 2;
  static constexpr int kTokenPitch = kSkinnyTokenPitch;
  struct Tokens {
    uint4 v;
  };

  static __device__ __forceinline__ Tokens LoadTokens(const char* from) {
    return {*reinterpret_cast<const uint4*>(from)};
  }

  template <int kTokenGroups>
  static __device__ __forceinline__ void Mma(float (&sums)[kTokenGroups][4], uint4 low, uint4 high,
                                             const Tokens (&x)[kTokenGroups]) {
    const uint32_t first[4] = {low.x, high.x, low.y, high.y};
    const uint32_t second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
    for (int i = 0; i < kTokenGroups; ++i) {
      Element::Mma(sums[i], first, x[i].v.x, x[i].v.y);
      Element::Mma(sums[i], second, x[i].v.z, x[i].v.w);
    }
  }
};

// Two pairs of e4m3 to pairs of 16-bit floats, exactly.
__device__ __forceinline__ void UnpackFp8(uint32_t packed, uint32_t (&pairs)[2], Bf16) {
  // The bits fit under bf16's exponent, which is then 2^120 too small; the product is exact and
  // makes subnormals right too.
  constexpr uint32_t kScale = 0x7b807b80;  // 2^120, twice
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t spread = __byte_perm(packed, 0, i == 0 ? 0x1404 : 0x3424);
    const uint32_t small = (spread & 0x80008000u) | ((spread >> 4) & 0x07f007f0u);
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(pairs[i]) : "r"(small), "r"(kScale));
  }
}

__device__ __forceinline__ void UnpackFp8(uint32_t packed, uint32_t (&pairs)[2], F16) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint16_t two = static_cast<uint16_t>(packed >> (16 * i));
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pairs[i]) : "h"(two));
  }
}

template <typename ElementType>
struct WeightsFp8 {
  using Element = ElementType;
  static constexpr int kBytes = 1;
  static constexpr int kTokenPitch = kSkinnyTokenPitchFp8;
  struct Tokens {
    uint4 v[2];
  };

  static __device__ __forceinline__ Tokens LoadTokens(const char* from) {
    return {{reinterpret_cast<const uint4*>(from)[0], reinterpret_cast<const uint4*>(from)[1]}};
  }

  template <int kTokenGroups>
  static __device__ __forceinline__ void Mma(float (&sums)[kTokenGroups][4], uint4 low, uint4 high,
                                             const Tokens (&x)[kTokenGroups]) {
    const uint32_t lows[4] = {low.x, low.y, low.z, low.w};
    const uint32_t highs[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      uint32_t a[2];
      uint32_t b[2];
      UnpackFp8(lows[j], a, Element{});
      UnpackFp8(highs[j], b, Element{});
      const uint32_t fragment[4] = {a[0], b[0], a[1], b[1]};
#pragma unroll
      for (int i = 0; i < kTokenGroups; ++i) {
        const uint4 v = x[i].v[j / 2];
        Element::Mma(sums[i], fragment, j % 2 == 0 ? v.x : v.z, j % 2 == 0 ? v.y : v.w);
      }
    }
  }
};

}  // namespace mili::kernels::cuda

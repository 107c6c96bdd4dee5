// The best token of a row as one number: what the head (head/head.h) keeps and Sample takes. Device
// code only.
#pragma once

#include <cstdint>

#include "kernels/cuda/sample/row_reader.cuh"

namespace mili::kernels::cuda {

// Whether of a row's logits only the largest matters.
__device__ __forceinline__ bool IsPlainGreedy(const SlotSampling& s) {
  return s.temperature == 0 && s.num_top < 0 && !HasEdits(s);
}

__device__ __forceinline__ float MaxOrNan(float a, float b) {
  float max;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(max) : "f"(a), "f"(b));
  return max;
}

inline constexpr uint32_t kBestIsNan = 0xffffffffu;

// Of two the larger number is the better token: by logit, a NaN before all, then by the lower id.
__device__ __forceinline__ uint64_t BestToken(float logit, int32_t id) {
  const uint32_t key = logit != logit ? kBestIsNan : KeyOf(logit);
  return uint64_t{key} << 32 | static_cast<uint32_t>(~id);
}
__device__ __forceinline__ uint32_t BestKey(uint64_t best) {
  return static_cast<uint32_t>(best >> 32);
}
__device__ __forceinline__ int32_t BestId(uint64_t best) {
  return static_cast<int32_t>(~static_cast<uint32_t>(best));
}

}  // namespace mili::kernels::cuda

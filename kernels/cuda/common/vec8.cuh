// Eight 16-bit floats, the unit in which row kernels read and write, as fp32; sums and maxima over
// a block; rows to fp8. Device code only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

namespace mili::kernels::cuda {

inline constexpr int kVec = 8;  // elements of a 16-byte load

__device__ __forceinline__ float2 ToFloat2(__nv_bfloat162 x) { return __bfloat1622float2(x); }
__device__ __forceinline__ float2 ToFloat2(__half2 x) { return __half22float2(x); }

template <typename T>
struct PairOf;
template <>
struct PairOf<__nv_bfloat16> {
  using Type = __nv_bfloat162;
  static __device__ __forceinline__ Type From(float a, float b) {
    return __floats2bfloat162_rn(a, b);
  }
};
template <>
struct PairOf<__half> {
  using Type = __half2;
  static __device__ __forceinline__ Type From(float a, float b) { return __floats2half2_rn(a, b); }
};

// Takes a copy: through a reference to device memory it would be loaded in pieces.
template <typename T>
__device__ __forceinline__ void Unpack(uint4 bits, float (&v)[kVec]) {
  const auto* pairs = reinterpret_cast<const typename PairOf<T>::Type*>(&bits);
#pragma unroll
  for (int i = 0; i < kVec / 2; ++i) {
    const float2 pair = ToFloat2(pairs[i]);
    v[2 * i] = pair.x;
    v[2 * i + 1] = pair.y;
  }
}

template <typename T>
__device__ __forceinline__ uint4 Pack(const float (&v)[kVec]) {
  uint4 bits;
  auto* pairs = reinterpret_cast<typename PairOf<T>::Type*>(&bits);
#pragma unroll
  for (int i = 0; i < kVec / 2; ++i) pairs[i] = PairOf<T>::From(v[2 * i], v[2 * i + 1]);
  return bits;
}

// Eight products rounded to e4m3.
__device__ __forceinline__ uint2 PackFp8(const float (&v)[kVec], float factor) {
  uint32_t words[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float2 low = {v[4 * i] * factor, v[4 * i + 1] * factor};
    const float2 high = {v[4 * i + 2] * factor, v[4 * i + 3] * factor};
    words[i] = __nv_cvt_float2_to_fp8x2(low, __NV_SATFINITE, __NV_E4M3) |
               uint32_t{__nv_cvt_float2_to_fp8x2(high, __NV_SATFINITE, __NV_E4M3)} << 16;
  }
  return {words[0], words[1]};
}

// The sum over the block, in every thread, in an order that only the block's size decides. Whole
// warps; `scratch` is shared memory for 32 values that nobody else uses until the next barrier.
__device__ __forceinline__ float BlockSum(float value, float* scratch) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  const int lane = threadIdx.x % 32;
  if (lane == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = lane < blockDim.x / 32 ? scratch[lane] : 0.0f;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  return value;
}

// As BlockSum, for the largest value.
__device__ __forceinline__ uint32_t BlockMax(uint32_t value, uint32_t* scratch) {
  value = __reduce_max_sync(~0u, value);
  const int lane = threadIdx.x % 32;
  if (lane == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  return __reduce_max_sync(~0u, lane < blockDim.x / 32 ? scratch[lane] : 0u);
}

// |x| as an integer that orders like it, infinities and NaN on top.
__device__ __forceinline__ uint32_t Magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

struct Fp8Factor {
  float scale;    // value = quantised * scale
  float inverse;  // quantised = value * inverse
};

__device__ __forceinline__ Fp8Factor Fp8FactorOf(uint32_t largest_magnitude) {
  constexpr float kLargestE4m3 = 448.0f;
  if (largest_magnitude == 0) return {1.0f, 1.0f};
  const float amax = __uint_as_float(largest_magnitude);
  return {amax / kLargestE4m3, kLargestE4m3 / amax};
}

}  // namespace mili::kernels::cuda

// A row held in a block's registers: each thread has kVecs vectors of 8, thread i vectors i,
// i + threads, ... Device code only.
#pragma once

#include "kernels/cuda/common/fp8.h"
#include "kernels/cuda/common/vec8.cuh"

namespace mili::kernels::cuda {

// Threads of a block that holds num_vecs vectors, kVecs a thread: whole warps.
constexpr int32_t RowThreads(int32_t num_vecs, int32_t vecs_per_thread) {
  return ((num_vecs + vecs_per_thread - 1) / vecs_per_thread + 31) / 32 * 32;
}

// Writes the row as fp8 with its scale. One barrier; `scratch` as for BlockMax.
template <int kVecs>
__device__ __forceinline__ void StoreFp8Row(const float (&v)[kVecs][kVec], int32_t num_vecs,
                                            const Fp8Rows& to, int64_t row, uint32_t* scratch) {
  uint32_t largest = 0;
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
    if (threadIdx.x + j * blockDim.x >= num_vecs) break;
#pragma unroll
    for (int i = 0; i < kVec; ++i) largest = max(largest, Magnitude(v[j][i]));
  }
  const Fp8Factor factor = Fp8FactorOf(BlockMax(largest, scratch));
  auto* values = reinterpret_cast<uint2*>(to.values) + row * num_vecs;
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
    const int32_t i = threadIdx.x + j * blockDim.x;
    if (i < num_vecs) values[i] = PackFp8(v[j], factor.inverse);
  }
  if (threadIdx.x == 0) to.scales[row] = factor.scale;
}

}  // namespace mili::kernels::cuda

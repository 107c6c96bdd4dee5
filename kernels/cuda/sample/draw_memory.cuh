// Shared memory of the block that finishes a row, and scans over that block. Device code only.
#pragma once

#include "kernels/cuda/sample/row_reader.cuh"

namespace mili::kernels::cuda {

inline constexpr int kDrawThreads = 512;
inline constexpr int kDrawWarps = kDrawThreads / 32;
inline constexpr int kMaxListed = 8192;
inline constexpr int kBins = kDrawThreads;  // one a thread
inline constexpr int kMassDigits = 3;       // a weight is counted as three digits of 12 bits
inline constexpr int kUnitsPerThread = kMaxGroups / kDrawThreads;

struct DrawMemory {
  float listed[kMaxListed];        // values of gathered candidates, by id
  int32_t listed_ids[kMaxListed];  // their ids
  float group_max[kMaxGroups];     // of the row's groups
  double unit_mass[kMaxGroups];    // of a source's units
  uint32_t unit_ties[kMaxGroups];  // candidates at the threshold in the units before
  uint16_t groups[kMaxGroups];     // groups that hold a candidate
  uint32_t bin_count[kBins];
  uint32_t bin_mass[kMassDigits][kBins];
  double scratch[kDrawWarps];
  // Told by one thread to all.
  uint32_t found_bin;
  uint32_t found_count;
  uint64_t found_before;
  int32_t found_unit;
  double found_rest;
  int32_t found_token;
  int32_t num_selected;
};

template <typename T>
struct Scanned {
  T before;  // sum of the threads before
  T total;
};

// Sums over the block, in a fixed order. All threads call it.
template <typename T>
__device__ __forceinline__ Scanned<T> BlockScan(T value, DrawMemory& memory) {
  static_assert(sizeof(T) <= sizeof(double));
  auto* warps = reinterpret_cast<T*>(memory.scratch);
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  T sum = value;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T other = __shfl_up_sync(~0u, sum, step);
    if (lane >= step) sum += other;
  }
  __syncthreads();  // scratch is free
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  T all = lane < kDrawWarps ? warps[lane] : T{0};
#pragma unroll
  for (int step = 1; step < kDrawWarps; step *= 2) {
    const T other = __shfl_up_sync(~0u, all, step);
    if (lane >= step) all += other;
  }
  const T before_warp = __shfl_sync(~0u, all, max(warp - 1, 0));
  const T total = __shfl_sync(~0u, all, kDrawWarps - 1);
  T before = __shfl_up_sync(~0u, sum, 1);
  if (lane == 0) before = T{0};
  if (warp > 0) before += before_warp;
  return {before, total};
}

// The largest value and, of those that hold it, the lowest index.
__device__ __forceinline__ uint64_t BlockMaxOf(uint64_t value, DrawMemory& memory) {
  auto* warps = reinterpret_cast<uint64_t*>(memory.scratch);
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    value = max(value, __shfl_xor_sync(~0u, value, step));
  }
  __syncthreads();
  if (lane == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = warps[lane % kDrawWarps];
#pragma unroll
  for (int step = kDrawWarps / 2; step > 0; step /= 2) {
    value = max(value, __shfl_xor_sync(~0u, value, step));
  }
  return value;
}

}  // namespace mili::kernels::cuda

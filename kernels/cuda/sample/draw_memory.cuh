// Shared memory of the block that finishes a row, and sums over that block. Device code only.
#pragma once

#include "kernels/cuda/sample/row_reader.cuh"

namespace mili::kernels::cuda {

inline constexpr int kDrawThreads = 512;
inline constexpr int kDrawWarps = kDrawThreads / 32;
inline constexpr int kMaxListed = 8192;
inline constexpr int kBins = kDrawThreads;  // one a thread
inline constexpr int kMassDigits = 3;       // a weight is counted as three digits of 12 bits
inline constexpr int kUnitsPerThread = kMaxGroups / kDrawThreads;
static_assert(kUnitsPerThread == 4);  // a float4 of the row's statistics

struct DrawMemory {
  float listed[kMaxListed];                 // values of gathered candidates, by id
  int32_t listed_ids[kMaxListed];           // their ids
  alignas(16) float group_max[kMaxGroups];  // of the row's groups; -inf behind them
  double unit_mass[kMaxGroups];             // of a source's units
  uint32_t unit_ties[kMaxGroups];           // candidates at the threshold in the units before
  uint16_t groups[kMaxGroups];              // groups that hold a candidate
  alignas(16) uint32_t keys[kBins];         // of one candidate a thread
  uint32_t bin_count[kBins];
  uint32_t bin_mass[kMassDigits][kBins];
  alignas(16) double scratch[4 * kDrawWarps];
  uint32_t warp_counts[2][kDrawWarps];
  // Told by one thread to all.
  RowReader reader;  // of the block's row
  uint32_t found_bin;
  uint32_t found_count;
  uint64_t found_before;
  double found_rest;
  int32_t found_token;
  // The lowest and the highest of what threads propose, see Propose.
  int32_t proposed_min;
  int32_t proposed_max;
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

// What a row's maxima say; its logits have no NaN unless has_nan.
struct Extremes {
  bool has_nan;
  uint32_t highest;  // key
  uint32_t lowest;   // key of the lowest maximum above -inf; 0xffffffff if there is none
  int32_t group;     // the first with the highest
};

// Of this thread's groups 4 threadIdx.x ... in `maxima`, NaN where there is none; over the block.
__device__ __forceinline__ Extremes BlockExtremes(const float4& maxima, bool has_nan,
                                                  DrawMemory& memory) {
  const int lane = threadIdx.x % 32;
  uint32_t highest = 0;
  uint32_t lowest = 0xffffffffu;
  uint32_t group = 0;
#pragma unroll
  for (int j = 0; j < kUnitsPerThread; ++j) {
    const uint32_t key = KeyOf((&maxima.x)[j]);
    if (key > highest) group = threadIdx.x * kUnitsPerThread + j;
    highest = max(highest, key);
    if (key > kKeyOfMinusInfinity) lowest = min(lowest, key);
  }
  const uint32_t of_warp = __reduce_max_sync(~0u, highest);
  group = __reduce_min_sync(~0u, highest == of_warp ? group : 0xffffffffu);
  lowest = __reduce_min_sync(~0u, lowest);
  auto* warps = reinterpret_cast<uint4*>(memory.scratch);
  if (lane == 0) warps[threadIdx.x / 32] = {of_warp, group, lowest, 0};
  has_nan = __syncthreads_or(has_nan);
  const uint4 other = warps[lane % kDrawWarps];
  highest = __reduce_max_sync(~0u, other.x);
  group = __reduce_min_sync(~0u, other.x == highest ? other.y : 0xffffffffu);
  return {has_nan, highest, __reduce_min_sync(~0u, other.z), static_cast<int32_t>(group)};
}

// The lowest `low` and the highest `high` that any thread proposes, in all threads.
struct Proposed {
  int32_t lowest;
  int32_t highest;
};
inline constexpr int32_t kNoLow = 0x7fffffff;
inline constexpr int32_t kNoHigh = -1;
__device__ __forceinline__ Proposed Propose(int32_t low, int32_t high, DrawMemory& memory) {
  if (threadIdx.x == 0) {
    memory.proposed_min = kNoLow;
    memory.proposed_max = kNoHigh;
  }
  low = __reduce_min_sync(~0u, low);
  high = __reduce_max_sync(~0u, high);
  __syncthreads();
  if (threadIdx.x % 32 == 0) {
    if (low != kNoLow) atomicMin(&memory.proposed_min, low);
    if (high != kNoHigh) atomicMax(&memory.proposed_max, high);
  }
  __syncthreads();
  const Proposed proposed = {memory.proposed_min, memory.proposed_max};
  __syncthreads();
  return proposed;
}

}  // namespace mili::kernels::cuda

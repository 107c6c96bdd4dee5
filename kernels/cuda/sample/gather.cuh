// Collecting the candidates of a row, by id, from the groups that can hold one. Device code only.
#pragma once

#include "kernels/cuda/sample/candidates.cuh"

namespace mili::kernels::cuda {

// Lists in memory.groups, in order, the groups whose largest key is at least `lowest`; group_max is
// filled. Returns how many.
__device__ __forceinline__ int32_t ListGroups(int32_t num_groups, uint32_t lowest,
                                              DrawMemory& memory) {
  __syncthreads();
  uint32_t count = 0;
  for (int j = 0; j < kUnitsPerThread; ++j) {
    const int32_t group = threadIdx.x * kUnitsPerThread + j;
    if (group < num_groups) count += KeyOf(memory.group_max[group]) >= lowest;
  }
  const Scanned<uint32_t> scanned = BlockScan<uint32_t>(count, memory);
  uint32_t at = scanned.before;
  for (int j = 0; j < kUnitsPerThread; ++j) {
    const int32_t group = threadIdx.x * kUnitsPerThread + j;
    if (group < num_groups && KeyOf(memory.group_max[group]) >= lowest) {
      memory.groups[at++] = static_cast<uint16_t>(group);
    }
  }
  __syncthreads();
  return static_cast<int32_t>(scanned.total);
}

inline constexpr int kListBatch = 4;  // neighbouring units that a warp lists at once

// The floats that have keys in [lowest, highest], for comparisons by value.
struct ValueRange {
  float lowest;
  float highest;

  __device__ __forceinline__ ValueRange(uint32_t low, uint32_t high)
      // -0.0 has a key that no logit has, but equals +0.0, which is above.
      : lowest(ValueOf(low)), highest(ValueOf(high == KeyOf(0.0f) - 1 ? high - 1 : high)) {}
  __device__ __forceinline__ bool Has(float x) const { return x >= lowest && x <= highest; }
};

// Copies the candidates of the source's units with keys in [lowest, highest] to the list, in the
// order of ids, and calls visit(unit, values) for the units unit, ... of a batch, a warp each;
// values of units past the last are NaN. Returns how many there are; above kMaxListed the list is
// of no use, and units may have been left out. `highest` is infinity's key at most.
template <bool kEdits, typename Visit>
__device__ __forceinline__ int32_t ListCandidates(const Source<kEdits>& source, uint32_t lowest,
                                                  uint32_t highest, DrawMemory& memory,
                                                  Visit&& visit) {
  constexpr int32_t kStep = kDrawWarps * kListBatch;
  const ValueRange range(lowest, highest);
  const int32_t lane = threadIdx.x % 32;
  const int32_t warp = threadIdx.x / 32;
  int32_t first = warp * kListBatch;
  float4 next[kListBatch];
  const auto load_next = [&] {
    const float absent = __int_as_float(0x7fffffff);
#pragma unroll
    for (int j = 0; j < kListBatch; ++j) {
      next[j] = {absent, absent, absent, absent};
      if (first + j < source.num_units) next[j] = source.Load(first + j, memory);
    }
  };
  load_next();
  __syncthreads();  // list and warp_counts are free
  uint32_t listed = 0;
  for (int32_t base = 0; base < source.num_units && listed <= kMaxListed; base += kStep) {
    float4 x[kListBatch];
    uint32_t mine = 0;  // candidates of the lane, a byte for each unit of the batch
#pragma unroll
    for (int j = 0; j < kListBatch; ++j) {
      x[j] = next[j];
#pragma unroll
      for (int i = 0; i < kLaneIds; ++i) mine += range.Has((&x[j].x)[i]) ? 1u << 8 * j : 0u;
    }
    const int32_t first_of_x = first;
    first += kStep;
    load_next();  // on their way while the block counts
    visit(first_of_x, x);
    uint32_t before = mine;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const uint32_t other = __shfl_up_sync(~0u, before, step);
      if (lane >= step) before += other;
    }
    const uint32_t of_units = __shfl_sync(~0u, before, 31);
    before -= mine;
    const uint32_t of_warp = __dp4a(of_units, 0x01010101u, 0u);
    uint32_t(&counts)[kDrawWarps] = memory.warp_counts[base / kStep % 2];
    if (lane == 0) counts[warp] = of_warp;
    __syncthreads();
    const uint32_t of_lane = lane < kDrawWarps ? counts[lane] : 0;
    uint32_t at = listed + __reduce_add_sync(~0u, lane < warp ? of_lane : 0);
    listed += __reduce_add_sync(~0u, of_lane);
    if (listed > kMaxListed || mine == 0) continue;
#pragma unroll
    for (int j = 0; j < kListBatch; ++j) {
      uint32_t to = at + (before >> 8 * j & 255);
      at += of_units >> 8 * j & 255;
      if ((mine >> 8 * j & 255) == 0) continue;
#pragma unroll
      for (int i = 0; i < kLaneIds; ++i) {
        if (!range.Has((&x[j].x)[i])) continue;
        memory.listed[to] = (&x[j].x)[i];
        memory.listed_ids[to++] = source.IdOf(first_of_x + j, lane * kLaneIds + i, memory);
      }
    }
  }
  __syncthreads();
  return static_cast<int32_t>(listed);
}
template <bool kEdits>
__device__ __forceinline__ int32_t ListCandidates(const Source<kEdits>& source, uint32_t lowest,
                                                  uint32_t highest, DrawMemory& memory) {
  return ListCandidates(source, lowest, highest, memory, [](int32_t, const auto&) {});
}

// The candidates with keys from `lowest` of kGroups or kRawGroups: in the list if it holds them,
// else where they are.
template <bool kEdits>
__device__ __forceinline__ Source<kEdits> Gather(Values values, int32_t num_groups, uint32_t lowest,
                                                 DrawMemory& memory) {
  const Source<kEdits> groups = {values, ListGroups(num_groups, lowest, memory), 0};
  const int32_t count = ListCandidates(groups, lowest, KeyOf(Infinity()), memory);
  return count <= kMaxListed ? ListOf<kEdits>(Values::kListed, count) : groups;
}

}  // namespace mili::kernels::cuda

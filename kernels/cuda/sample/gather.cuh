// Collecting the candidates of a row, by id, from the groups that can hold one. Device code only.
#pragma once

#include "kernels/cuda/sample/candidates.cuh"
#include "kernels/cuda/sample/select.cuh"

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

// Copies the candidates of the source's units with keys from `lowest` to the list, in the order of
// ids. Returns how many there are; above kMaxListed the list is of no use.
__device__ __forceinline__ int32_t ListCandidates(const Source& source, uint32_t lowest,
                                                  DrawMemory& memory) {
  constexpr int kAhead = 4;  // neighbouring units of a warp and round
  const int32_t lane = threadIdx.x % 32;
  const int32_t warp = threadIdx.x / 32;
  uint32_t listed = 0;
  for (int32_t base = 0; base < source.num_units; base += kDrawWarps * kAhead) {
    float4 x[kAhead];
    uint32_t mine[kAhead] = {};
    uint32_t of_warp = 0;
    const int32_t first = base + warp * kAhead;
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (first + j < source.num_units) x[j] = source.Load(first + j);
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (first + j >= source.num_units) break;
#pragma unroll
      for (int i = 0; i < kLaneIds; ++i) mine[j] += KeyOf((&x[j].x)[i]) >= lowest;
      of_warp += __reduce_add_sync(~0u, mine[j]);
    }
    const Scanned<uint32_t> scanned = BlockScan<uint32_t>(lane == 0 ? of_warp : 0, memory);
    uint32_t at = listed + __shfl_sync(~0u, scanned.before, 0);
    listed += scanned.total;
    if (listed > kMaxListed) return static_cast<int32_t>(listed);
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (first + j >= source.num_units) break;
      uint32_t sum = mine[j];
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const uint32_t other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
      }
      uint32_t to = at + sum - mine[j];
#pragma unroll
      for (int i = 0; i < kLaneIds; ++i) {
        if (KeyOf((&x[j].x)[i]) < lowest) continue;
        memory.listed[to] = (&x[j].x)[i];
        memory.listed_ids[to++] = source.IdOf(first + j, lane * kLaneIds + i);
      }
      at += __shfl_sync(~0u, sum, 31);
    }
  }
  __syncthreads();
  return static_cast<int32_t>(listed);
}

// The candidates with keys from `lowest`: in the list if it holds them, else where they are.
__device__ __forceinline__ Source Gather(const RowReader& reader, bool is_raw, int32_t num_groups,
                                         uint32_t lowest, DrawMemory& memory) {
  const int32_t num_listed_groups = ListGroups(num_groups, lowest, memory);
  const Source groups = {&reader, nullptr, nullptr, memory.groups, 0, num_listed_groups, is_raw};
  const int32_t count = ListCandidates(groups, lowest, memory);
  return count <= kMaxListed ? ListOf(memory.listed, memory.listed_ids, count) : groups;
}

// A key that at least k elements of the row reach, since the largest of k groups do; `lowest` if
// there are not so many. group_max is filled.
__device__ __forceinline__ uint32_t BoundOfLargest(int32_t k, int32_t num_groups, uint32_t lowest,
                                                   uint32_t highest, DrawMemory& memory) {
  if (k > num_groups) return lowest;
  const Source maxima = ListOf(memory.group_max, nullptr, num_groups);
  return Select<false>(maxima, {lowest, Threshold::kAll}, highest, k, {}, memory).key;
}

}  // namespace mili::kernels::cuda

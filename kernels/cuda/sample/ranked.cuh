// Few candidates, one a thread: each finds its place by counting who is before it. Device code
// only.
#pragma once

#include "kernels/cuda/sample/select.cuh"

namespace mili::kernels::cuda {

// How many of the `count` listed candidates are before this thread's, by (logit descending, id
// ascending). count <= kDrawThreads; threads behind it get anything.
__device__ __forceinline__ int32_t RankAmongListed(int32_t count, DrawMemory& memory) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const uint32_t mine = thread < count ? KeyOf(memory.listed[thread]) : 0;
  memory.keys[thread] = mine;
  __syncthreads();
  if (thread / 32 * 32 >= count) return count;
  int32_t rank = 0;
  for (int32_t i = 0; i < count; i += 4) {
    const uint4 keys = *reinterpret_cast<const uint4*>(&memory.keys[i]);  // 0 behind the end
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t other = (&keys.x)[j];
      rank += i + j < thread ? other >= mine : other > mine;
    }
  }
  return rank;
}

// A draw from the listed candidates: of the first top_k of them the fewest that hold top_p of
// `total`, which 0 stands for the mass of the top_k. One candidate at least, kDrawThreads at most.
__device__ __forceinline__ int32_t DrawRanked(int32_t count, int32_t top_k, float top_p,
                                              double total, const Weight& weight, double uniform,
                                              DrawMemory& memory) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t rank = RankAmongListed(count, memory);
  const float mine = thread < count ? weight.Of(memory.listed[thread]) : 0.0f;
  int32_t kept = min(count, top_k);
  if (top_p < 1) {
    if (thread < count) memory.unit_mass[rank] = mine;
    __syncthreads();
    const double mass = thread < kept ? memory.unit_mass[thread] : 0.0;
    const Scanned<double> ranked = BlockScan<double>(mass, memory);
    const double target = top_p * (total > 0 ? total : ranked.total);
    const bool reaches = thread < kept && ranked.before + mass >= target;
    kept = min(kept, Propose(reaches ? thread + 1 : kNoLow, kNoHigh, memory).lowest);
  }
  const double mass = thread < count && rank < kept ? mine : 0.0;
  const Scanned<double> by_id = BlockScan<double>(mass, memory);
  const bool passes = mass > 0 && by_id.before + mass > uniform * by_id.total;
  const Proposed found = Propose(passes ? thread : kNoLow, mass > 0 ? thread : kNoHigh, memory);
  return memory.listed_ids[found.lowest != kNoLow ? found.lowest : found.highest];
}

}  // namespace mili::kernels::cuda

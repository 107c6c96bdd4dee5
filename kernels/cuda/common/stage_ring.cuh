// A place in a ring of stages in shared memory, which one thread fills and others empty. `Tile`
// says how many stages there are (kStages), how large one is (kStageBytes) and how far behind
// `base` the first one lies (kRingOffset). At `base` lie the barriers (bulk_copy.cuh): first those
// that a stage is full, then those that it is empty. Device code only.
#pragma once

#include <cstdint>

namespace mili::kernels::cuda {

template <typename Tile>
struct StageRing {
  int slot = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ uint32_t Full(uint32_t base) const { return base + 8 * slot; }
  __device__ __forceinline__ uint32_t Empty(uint32_t base) const {
    return base + 8 * (Tile::kStages + slot);
  }
  __device__ __forceinline__ uint32_t Stage(uint32_t base) const {
    return base + Tile::kRingOffset + slot * Tile::kStageBytes;
  }
  __device__ __forceinline__ void Advance() {
    if (++slot < Tile::kStages) return;
    slot = 0;
    parity ^= 1;
  }
};

}  // namespace mili::kernels::cuda

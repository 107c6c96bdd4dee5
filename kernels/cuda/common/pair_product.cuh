// What the warpgroups of a cluster of two blocks multiply: each 64 rows of weights of its own block
// by the columns that both blocks' rings hold. Device code only, compute capability 9.0.
#pragma once

#include "kernels/cuda/common/bulk_copy.cuh"
#include "kernels/cuda/common/cluster.cuh"
#include "kernels/cuda/common/stage_ring.cuh"
#include "kernels/cuda/common/wgmma.cuh"

namespace mili::kernels::cuda {

// sums: of this warpgroup's 64 weight rows by all columns, kSums a thread and piece, pieces of
// Tile::kPiece columns. A stage holds kChunk elements of k (16 bits each): the weights of all
// warpgroups, Tile::kWeightBytes of them, then the columns. For all threads that multiply; `ring`
// goes on behind the stages that were read, and both blocks are told so. `a`: the kernel's own
// arguments, which name num_chunks; given that number alone, nvcc 13.0 makes three copies of the
// loop's body.
template <int kChunk, typename Args, typename Tile, int kPieces, int kSums>
__device__ __forceinline__ void MultiplyOfPair(const Args& a, uint32_t base, uint32_t group,
                                               StageRing<Tile>* ring,
                                               float (&sums)[kPieces][kSums]) {
  // Lane r tells block r of the cluster that this warp has read a stage.
  const uint32_t lane = threadIdx.x % 32;
  uint32_t last = 0;
  for (int chunk = 0; chunk < a.num_chunks; ++chunk) {
    WaitForPhase(ring->Full(base), ring->parity);
    const uint32_t stage = ring->Stage(base);
    const uint64_t w = TileDescriptor(stage + group * 64 * kChunk * 2, 0);
    const uint64_t x = TileDescriptor(stage + Tile::kWeightBytes, 0);
    FenceProducts();
#pragma unroll
    for (int step = 0; step < kChunk / 16; ++step) {
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
        ProductOfTiles<typename Tile::Element, Tile::kPiece>(
            sums[p], w + step * 2, x + (p * Tile::kPiece * kChunk * 2 + step * 32) / 16,
            chunk == 0 && step == 0);
      }
    }
    CommitProducts();
    WaitForProducts<1>();
    if (chunk > 0 && lane < 2) ArriveOfBlock(last, lane);
    last = ring->Empty(base);
    ring->Advance();
  }
  WaitForProducts<0>();
  if (lane < 2) ArriveOfBlock(last, lane);
#pragma unroll
  for (auto& piece : sums) HoldRegisters(piece);
}

}  // namespace mili::kernels::cuda

// The kernel of gated.h. One thread copies boxes of weights and tokens into a ring, two or three
// warpgroups multiply 64 weight rows each by all tokens of the tile. Each block of a cluster of two
// has weights of its own and copies half of the tokens into the rings of both. Gate and up meet in
// one thread's sums, so the activation needs no exchange; its results leave by the copy engine.
#pragma once

#include "kernels/cuda/common/bulk_copy.cuh"
#include "kernels/cuda/common/cluster.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/pair_product.cuh"
#include "kernels/cuda/common/stage_ring.cuh"
#include "kernels/cuda/common/wgmma.cuh"

namespace mili::kernels::cuda {

inline constexpr int kGatedTokens = 256;
inline constexpr int kGatedChunk = 64;              // elements of k in a stage
inline constexpr int kGatedTilesInTurn = 8;         // token tiles that share weights in the L2
inline constexpr uint32_t kGatedRingOffset = 1024;  // barriers lie before it

struct GatedArgs {
  CUtensorMap w_map;  // boxes of one chunk by the tile's weight rows
  CUtensorMap x_map;  // boxes of one chunk by half of the tile's tokens
  CUtensorMap y_map;  // boxes of 32 outputs by the tile's tokens
  int32_t num_chunks;
  int32_t num_row_pairs;  // of tiles of weight rows: what a cluster multiplies
  int32_t num_token_tiles;
};

// `kOnce`: all tokens are in one tile, so the weights are read once and leave the L2 first.
template <typename ElementType, int kGroupsOfTile, bool kOnceOfTile = false>
struct GatedTile {
  static constexpr bool kOnce = kOnceOfTile;
  using Element = ElementType;
  static constexpr int kGroups = kGroupsOfTile;
  static constexpr int kRows = kGroups * 64;
  static constexpr int kStages = kGroups == 3 ? 3 : 4;
  static constexpr int kThreads = (kGroups + 1) * 128;
  static constexpr uint32_t kRingOffset = kGatedRingOffset;
  static constexpr int kPiece = kGroups == 3 ? 128 : 256;      // tokens of a product
  static constexpr int kRegisters = kGroups == 3 ? 160 : 240;  // of a multiplying thread
  static constexpr int kLoaderRegisters = kGroups == 3 ? 32 : 24;
  static constexpr uint32_t kWeightBytes = kRows * kGatedChunk * 2;
  static constexpr uint32_t kHalfOfTokenBytes = kGatedTokens / 2 * kGatedChunk * 2;
  static constexpr uint32_t kStageBytes = kWeightBytes + 2 * kHalfOfTokenBytes;
  static constexpr uint32_t kOutputBytes = kGatedTokens * 32 * 2;  // of a warpgroup
  static constexpr uint32_t kOutputs = kGatedRingOffset + kStages * kStageBytes;
  static constexpr uint32_t kSharedBytes = kOutputs + kGroups * kOutputBytes;
};

// The tiles of one block, in order. Neighbours in time share tokens or weights in the L2.
struct GatedWork {
  int row_tile;
  int token_tile;

  __device__ __forceinline__ GatedWork(const GatedArgs& a, int unit, int rank) {
    const int turn = unit / (kGatedTilesInTurn * a.num_row_pairs);
    const int first = turn * kGatedTilesInTurn;
    const int tiles = min(kGatedTilesInTurn, a.num_token_tiles - first);
    const int in_turn = unit - first * a.num_row_pairs;
    row_tile = in_turn / tiles * 2 + rank;
    token_tile = first + in_turn % tiles;
  }
};

// By one thread. The first weights depend on no other kernel and do not wait for any.
template <typename Tile>
__device__ __forceinline__ void LoadGated(const GatedArgs& a, uint32_t base, uint32_t rank) {
  const int num_units = a.num_row_pairs * a.num_token_tiles;
  const uint64_t policy = EvictFirst();
  const auto load_weights = [&](const GatedWork& work, int chunk, const StageRing<Tile>& ring) {
    ArriveExpecting(ring.Full(base), Tile::kStageBytes);
    const int column = chunk * kGatedChunk;
    const int row = work.row_tile * Tile::kRows;
    if constexpr (Tile::kOnce) {
      CopyBox(ring.Stage(base), a.w_map, column, row, ring.Full(base), policy);
    } else {
      CopyBox(ring.Stage(base), a.w_map, column, row, ring.Full(base));
    }
  };
  const auto load_tokens = [&](const GatedWork& work, int chunk, const StageRing<Tile>& ring) {
    const uint32_t to = ring.Stage(base) + Tile::kWeightBytes + rank * Tile::kHalfOfTokenBytes;
    CopyBoxToPair(to, a.x_map, chunk * kGatedChunk,
                  work.token_tile * kGatedTokens + rank * (kGatedTokens / 2), ring.Full(base));
  };
  StageRing<Tile> ring;
  int ahead = min(Tile::kStages, a.num_chunks);
  for (int unit = blockIdx.x / 2; unit < num_units; unit += gridDim.x / 2) {
    const GatedWork work(a, unit, rank);
    for (int chunk = 0; chunk < ahead; ++chunk) {
      load_weights(work, chunk, {chunk});
    }
    if (ahead > 0) WaitForProducers();
    for (int chunk = 0; chunk < a.num_chunks; ++chunk) {
      if (chunk >= ahead) {
        WaitForPhase(ring.Empty(base), ring.parity ^ 1);
        load_weights(work, chunk, ring);
      }
      load_tokens(work, chunk, ring);
      ring.Advance();
    }
    ahead = 0;
  }
}

__device__ __forceinline__ float SiluMulOf(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}

// Writes silu(gate) * up of a warpgroup's sums through its place in shared memory, [token][32].
template <typename Tile>
__device__ __forceinline__ void StoreGated(
    const GatedArgs& a, const GatedWork& work, uint32_t outputs, int group,
    const float (&sums)[kGatedTokens / Tile::kPiece][Tile::kPiece / 2]) {
  const int thread = threadIdx.x % 128;
  if (thread == 0) WaitForBoxReads();
  SyncThreads(1 + group, 128);  // nobody reads the last tile's outputs any more
  const uint32_t to = outputs + thread % 32 * 64 + thread / 32 * 16;
#pragma unroll
  for (int i = 0; i < kGatedTokens / 8; i += 4) {
    uint32_t out[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int at = 4 * (i + j);
      const float* sum = &sums[at / (Tile::kPiece / 2)][at % (Tile::kPiece / 2)];
      out[j] = Tile::Element::Pack(SiluMulOf(sum[0], sum[2]), SiluMulOf(sum[1], sum[3]));
    }
    StoreMatricesTransposed(out, to + i * 8 * 64);
  }
  PublishToTensorCores();
  SyncThreads(1 + group, 128);
  if (thread == 0) {
    StoreBox(a.y_map, work.row_tile * (Tile::kRows / 2) + group * 32,
             work.token_tile * kGatedTokens, outputs);
  }
}

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    GatedLinearKernel(const __grid_constant__ GatedArgs a) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) char shared[];
  const uint32_t base = SharedAddress(shared);
  const uint32_t rank = blockIdx.x % 2;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      InitBarrier(base + 8 * i, 1);
      InitBarrier(base + 8 * (Tile::kStages + i), 2 * 4 * Tile::kGroups);  // warps of both blocks
    }
    PublishBarriers();
  }
  SyncCluster();
  LetDependentsStart();
  const int group = threadIdx.x / 128;
  if (group == Tile::kGroups) {
    KeepRegisters<Tile::kLoaderRegisters>();
    if (threadIdx.x == Tile::kGroups * 128) LoadGated<Tile>(a, base, rank);
  } else {
    TakeRegisters<Tile::kRegisters>();
    WaitForProducers();
    const int num_units = a.num_row_pairs * a.num_token_tiles;
    StageRing<Tile> ring;
    for (int unit = blockIdx.x / 2; unit < num_units; unit += gridDim.x / 2) {
      float sums[kGatedTokens / Tile::kPiece][Tile::kPiece / 2];
      MultiplyOfPair<kGatedChunk>(a, base, group, &ring, sums);
      StoreGated<Tile>(a, GatedWork(a, unit, rank),
                       base + Tile::kOutputs + group * Tile::kOutputBytes, group, sums);
    }
    if (threadIdx.x % 128 == 0) WaitForBoxReads();
  }
  __syncwarp();
  SyncCluster();  // the other block may still write here, or arrive at a barrier
#endif
}

}  // namespace mili::kernels::cuda

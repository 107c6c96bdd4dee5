// The wide kernel (see wide.h). One warp copies boxes of weights and tokens into a ring, one to
// three warpgroups multiply 64 weight rows each by all tokens of the tile. The blocks of a cluster
// share a tile: each sums over a part of k, and each then adds the parts of all for some of the
// tokens. The weights of the first stages are asked for before the producers of x have ended.
#pragma once

#include <type_traits>

#include "kernels/cuda/common/bulk_copy.cuh"
#include "kernels/cuda/common/cluster.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/wgmma.cuh"
#include "kernels/cuda/linear/wide_args.h"
#include "kernels/cuda/linear/wide_epilogue.cuh"

namespace mili::kernels::cuda {

template <typename ElementType, typename OutType, int kTokensOfTile, int kGroupsOfTile>
struct WideTile {
  using Element = ElementType;
  using Out = OutType;
  static constexpr int kTokens = kTokensOfTile;
  static constexpr int kGroups = kGroupsOfTile;
  static constexpr int kChunk = kWideChunkBytes / (std::is_same_v<Element, E4m3> ? 1 : 2);
  static constexpr int kRows = kGroups * kWideGroupRows;
  static constexpr int kPiece = kTokens >= 128 ? 128 : kTokens >= 64 ? 64 : 16;  // of one product
  static constexpr int kPieces = kTokens / kPiece;
  static constexpr int kMultipliers = kGroups * 128;  // threads
  static constexpr int kThreads = kMultipliers + 32;
  static constexpr uint32_t kWeightBytes = kRows * kWideChunkBytes;
  static constexpr uint32_t kStageBytes = kWeightBytes + kTokens * kWideChunkBytes;
  static constexpr int kSumPitch = kRows + kWideSumPadding;
  // Whether registers are left for what the outputs need while the sums are made.
  static constexpr bool kAsksEarly = kTokens <= (kGroups == 2 ? 64 : 128);
};

__device__ __forceinline__ WideBlock WideBlockOf(const WideArgs& a, int tokens, uint32_t base) {
  const int share = (a.num_chunks + a.num_splits - 1) / a.num_splits;
  WideBlock block;
  block.split = blockIdx.x % a.num_splits;
  block.tile = blockIdx.x / a.num_splits;
  block.first_token = blockIdx.y * tokens;
  block.first_chunk = block.split * share;
  block.num_chunks = max(0, min(share, a.num_chunks - block.first_chunk));
  block.full = base;
  block.empty = base + 8 * kWideMaxStages;
  block.ring = base + kWideRingOffset;
  return block;
}

// By one thread.
template <typename Tile>
__device__ __forceinline__ void LoadStages(const WideArgs& a, const WideBlock& block) {
  const uint64_t policy = EvictFirst();
  const auto load_weights = [&](int i, int slot) {
    const uint32_t barrier = block.full + 8 * slot;
    ArriveExpecting(barrier, Tile::kStageBytes);
    CopyBox(block.ring + slot * Tile::kStageBytes, a.w_map, (block.first_chunk + i) * Tile::kChunk,
            block.tile * Tile::kRows, barrier, policy);
  };
  const auto load_tokens = [&](int i, int slot) {
    CopyBox(block.ring + slot * Tile::kStageBytes + Tile::kWeightBytes, a.x_map,
            (block.first_chunk + i) * Tile::kChunk, block.first_token, block.full + 8 * slot);
  };
  const int ahead = min(a.num_stages, block.num_chunks);
  for (int i = 0; i < ahead; ++i) load_weights(i, i);
  WaitForProducers();
  for (int i = 0; i < ahead; ++i) load_tokens(i, i);
  int slot = 0;
  uint32_t parity = 0;
  for (int i = ahead; i < block.num_chunks; ++i) {
    WaitForPhase(block.empty + 8 * slot, parity);
    load_weights(i, slot);
    load_tokens(i, slot);
    if (++slot == a.num_stages) {
      slot = 0;
      parity ^= 1;
    }
  }
}

template <typename Tile>
__device__ __forceinline__ void MultiplyStages(const WideArgs& a, const WideBlock& block,
                                               float (&sums)[Tile::kPieces][Tile::kPiece / 2]) {
#pragma unroll
  for (int p = 0; p < Tile::kPieces; ++p) {
#pragma unroll
    for (float& sum : sums[p]) sum = 0.0f;
  }
  const int group = threadIdx.x / 128;
  int slot = 0;
  int last_slot = 0;
  uint32_t parity = 0;
  for (int i = 0; i < block.num_chunks; ++i) {
    WaitForPhase(block.full + 8 * slot, parity);
    const uint32_t stage = block.ring + slot * Tile::kStageBytes;
    const uint64_t w = TileDescriptor(stage + group * kWideGroupRows * kWideChunkBytes, 0);
    const uint64_t x = TileDescriptor(stage + Tile::kWeightBytes, 0);
    FenceProducts();
#pragma unroll
    for (int step = 0; step < kWideChunkBytes / 32; ++step) {
#pragma unroll
      for (int p = 0; p < Tile::kPieces; ++p) {
        constexpr int kPieceBytes = Tile::kPiece * kWideChunkBytes;
        ProductOfTiles<typename Tile::Element, Tile::kPiece>(
            sums[p], w + step * 2, x + (p * kPieceBytes + step * 32) / 16, false);
      }
    }
    CommitProducts();
    WaitForProducts<1>();
    if (i > 0 && threadIdx.x % 32 == 0) Arrive(block.empty + 8 * last_slot);
    last_slot = slot;
    if (++slot == a.num_stages) {
      slot = 0;
      parity ^= 1;
    }
  }
  WaitForProducts<0>();
#pragma unroll
  for (int p = 0; p < Tile::kPieces; ++p) HoldRegisters(sums[p]);
}

// Writes the sums as [token][row] where the ring was.
template <typename Tile>
__device__ __forceinline__ void StoreSums(const float (&sums)[Tile::kPieces][Tile::kPiece / 2],
                                          float* to) {
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  to += threadIdx.x % 4 * 2 * Tile::kSumPitch + row;
#pragma unroll
  for (int p = 0; p < Tile::kPieces; ++p) {
#pragma unroll
    for (int i = 0; i < Tile::kPiece / 8; ++i) {
      float* token = to + (p * Tile::kPiece + i * 8) * Tile::kSumPitch;
      token[0] = sums[p][4 * i];
      token[Tile::kSumPitch] = sums[p][4 * i + 1];
      token[8] = sums[p][4 * i + 2];
      token[Tile::kSumPitch + 8] = sums[p][4 * i + 3];
    }
  }
}

template <typename Tile>
__device__ __forceinline__ void MultiplyTile(const WideArgs& a, const WideBlock& block,
                                             char* shared) {
  WideOutputs<Tile> outputs(a, block);
  if (Tile::kAsksEarly) {
    outputs.LoadColumns(a);
  } else {
    PrefetchColumns<typename Tile::Out::Type>(a, block.tile * Tile::kRows, Tile::kRows);
  }
  WaitForProducers();
  if (Tile::kAsksEarly) outputs.LoadTokens(a, block);
  float sums[Tile::kPieces][Tile::kPiece / 2];
  MultiplyStages<Tile>(a, block, sums);
  SyncThreads(1, Tile::kMultipliers);  // all have read the ring
  float* const parts = reinterpret_cast<float*>(shared + kWideRingOffset);
  StoreSums<Tile>(sums, parts);
  if (!Tile::kAsksEarly) {
    outputs.LoadColumns(a);
    outputs.LoadTokens(a, block);
  }
  const auto sync_block = [] { SyncThreads(1, Tile::kMultipliers); };
  const auto sync_cluster = [] { SyncCluster(); };
  switch (a.num_splits) {
    case 1:
      return outputs.template Write<1>(a, block, parts, sync_block);
    case 2:
      return outputs.template Write<2>(a, block, parts, sync_cluster);
    case 4:
      return outputs.template Write<4>(a, block, parts, sync_cluster);
    default:
      return outputs.template Write<8>(a, block, parts, sync_cluster);
  }
}

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kTokens > 128 || Tile::kGroups > 2 ? 1 : 2)
    WideLinearKernel(const __grid_constant__ WideArgs a) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) char shared[];
  const WideBlock block = WideBlockOf(a, Tile::kTokens, SharedAddress(shared));
  if (threadIdx.x == Tile::kMultipliers) {
    for (int i = 0; i < a.num_stages; ++i) {
      InitBarrier(block.full + 8 * i, 1);
      InitBarrier(block.empty + 8 * i, Tile::kMultipliers / 32);
    }
    PublishBarriers();
  }
  __syncthreads();
  LetDependentsStart();
  if (threadIdx.x < Tile::kMultipliers) {
    MultiplyTile<Tile>(a, block, shared);
  } else {
    if (threadIdx.x == Tile::kMultipliers) LoadStages<Tile>(a, block);
    __syncwarp();
    if (a.num_splits > 1) SyncCluster();
  }
  // Others may still read this block's sums.
  if (a.num_splits > 1) SyncCluster();
#endif
}

// The table of instances of one pair of types.
template <typename Element, typename Out>
WideKernel WideInstance(int tokens, int groups) {
  const auto of = [groups](WideKernel one, WideKernel two, WideKernel three = nullptr) {
    return groups == 1 ? one : groups == 2 ? two : groups == 3 ? three : nullptr;
  };
  switch (tokens) {
    case 16:
      return of(WideLinearKernel<WideTile<Element, Out, 16, 1>>,
                WideLinearKernel<WideTile<Element, Out, 16, 2>>,
                WideLinearKernel<WideTile<Element, Out, 16, 3>>);
    case 32:
      return of(WideLinearKernel<WideTile<Element, Out, 32, 1>>,
                WideLinearKernel<WideTile<Element, Out, 32, 2>>,
                WideLinearKernel<WideTile<Element, Out, 32, 3>>);
    case 64:
      return of(WideLinearKernel<WideTile<Element, Out, 64, 1>>,
                WideLinearKernel<WideTile<Element, Out, 64, 2>>,
                WideLinearKernel<WideTile<Element, Out, 64, 3>>);
    case 128:
      return of(WideLinearKernel<WideTile<Element, Out, 128, 1>>,
                WideLinearKernel<WideTile<Element, Out, 128, 2>>,
                WideLinearKernel<WideTile<Element, Out, 128, 3>>);
    case 256:
      return of(WideLinearKernel<WideTile<Element, Out, 256, 1>>,
                WideLinearKernel<WideTile<Element, Out, 256, 2>>);
    default:
      return nullptr;
  }
}

}  // namespace mili::kernels::cuda

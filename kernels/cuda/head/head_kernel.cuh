// The kernel of head.h. One thread copies boxes of weights and rows into a ring, three warpgroups
// multiply 64 tokens of the vocabulary each by all rows. Each block of a cluster of two has tokens
// of its own and copies half of the rows into the rings of both.
//
// A thread holds two tokens of the vocabulary of some rows, a warp 16 of all rows. It finds the
// best of each row in three steps: in each a lane gives half of its rows to another lane and takes
// the other half from it. The weights are copied so that a thread's tokens are neighbours: then the
// tokens that two lanes compare are, too, and the lower lane's are the lower ones.
#pragma once

#include "kernels/cuda/common/bulk_copy.cuh"
#include "kernels/cuda/common/cluster.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/pair_product.cuh"
#include "kernels/cuda/common/stage_ring.cuh"
#include "kernels/cuda/common/wgmma.cuh"
#include "kernels/cuda/sample/best_token.cuh"

namespace mili::kernels::cuda {

inline constexpr int kHeadGroups = 3;                 // warpgroups that multiply
inline constexpr int kHeadTokens = 64 * kHeadGroups;  // of the vocabulary, in a tile
inline constexpr int kHeadChunk = 64;                 // elements of k in a stage

struct HeadArgs {
  CUtensorMap w_map;  // boxes of one chunk by 8 by 2 by the tile's 16s: every other token, then the
                      // others, of each 16
  CUtensorMap x_map;  // boxes of one chunk by half of the tile's rows
  const int32_t* row_slots;
  const SlotSampling* slots;
  float* logits;
  int64_t logits_stride;
  uint64_t* best;
  int32_t num_rows;
  int32_t vocab_size;
  int32_t num_valid;
  int32_t num_chunks;
  int32_t num_units;  // pairs of tiles
};

template <typename ElementType, int kRowsOfTile>
struct HeadTile {
  using Element = ElementType;
  static constexpr int kRows = kRowsOfTile;
  static constexpr int kLaneRows = kRows / 4;
  static constexpr int kPiece = kRows < 128 ? kRows : 128;  // rows of a product
  static constexpr int kPieces = kRows / kPiece;
  static constexpr int kMultipliers = kHeadGroups * 128;  // threads
  static constexpr int kFlaggers = 96;  // threads, which find whose logits to keep
  static constexpr int kThreads = kMultipliers + 128;
  static constexpr int kWarps = kMultipliers / 32;
  static constexpr int kRegisters = 160;  // of a multiplying thread
  static constexpr int kLoaderRegisters = 32;
  static constexpr uint32_t kWeightBytes = kHeadTokens * kHeadChunk * 2;
  static constexpr uint32_t kHalfOfRowBytes = kRows / 2 * kHeadChunk * 2;
  static constexpr uint32_t kStageBytes = kWeightBytes + 2 * kHalfOfRowBytes;
  static constexpr int kStages = kRows == 256 ? 3 : kRows == 128 ? 5 : 6;
  static constexpr uint32_t kFlags = 512;        // behind the barriers
  static constexpr uint32_t kRingOffset = 1024;  // behind the flags
  static constexpr uint32_t kPlaces = kRingOffset + kStages * kStageBytes;
  static constexpr uint32_t kSharedBytes = kPlaces + kWarps * kRows * sizeof(uint64_t);

  // What a thread sums up: of tokens t and t + 1 of the vocabulary 4 j + 0, 1 and 4 j + 2, 3 are
  // those of rows 8 j + 2 (lane % 4) and the next.
  using Sums = float[kPieces][kPiece / 2];

  static __device__ __forceinline__ int RowOf(int lane_row) {
    return lane_row / 2 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + lane_row % 2;
  }
  static __device__ __forceinline__ float& SumOf(Sums& sums, int lane_row, int second) {
    const int at = lane_row / 2 * 4 + second * 2 + lane_row % 2;
    return sums[at / (kPiece / 2)][at % (kPiece / 2)];
  }
};

// Bit r of flags[lane % 4] says whether the logits of such lanes' row r are kept.
using HeadFlags = uint64_t[4];

// By kFlaggers threads, of which this is number `thread`.
template <typename Tile>
__device__ __forceinline__ void FlagRows(const HeadArgs& a, int thread, HeadFlags& flags) {
  for (int row = thread; row < Tile::kRows; row += Tile::kFlaggers) {
    const int32_t slot = row < a.num_rows ? a.row_slots[row] : -1;
    if (slot < 0 || IsPlainGreedy(a.slots[slot])) continue;
    atomicOr(reinterpret_cast<unsigned long long*>(&flags[row % 8 / 2]),
             1ull << (row / 8 * 2 + row % 2));
  }
}

// By one thread. The first weights depend on no other kernel and do not wait for any.
template <typename Tile>
__device__ __forceinline__ void LoadHead(const HeadArgs& a, uint32_t base, uint32_t rank) {
  const uint64_t policy = EvictFirst();
  const auto load_weights = [&](int unit, int chunk, const StageRing<Tile>& ring) {
    ArriveExpecting(ring.Full(base), Tile::kStageBytes);
    CopyBox(ring.Stage(base), a.w_map, chunk * kHeadChunk, 0, 0,
            (unit * 2 + static_cast<int>(rank)) * (kHeadTokens / 16), ring.Full(base), policy);
  };
  StageRing<Tile> ring;
  int ahead = min(Tile::kStages, a.num_chunks);
  for (int unit = blockIdx.x / 2; unit < a.num_units; unit += gridDim.x / 2) {
    for (int chunk = 0; chunk < ahead; ++chunk) load_weights(unit, chunk, {chunk});
    if (ahead > 0) WaitForProducers();
    for (int chunk = 0; chunk < a.num_chunks; ++chunk) {
      if (chunk >= ahead) {
        WaitForPhase(ring.Empty(base), ring.parity ^ 1);
        load_weights(unit, chunk, ring);
      }
      CopyBoxToPair(ring.Stage(base) + Tile::kWeightBytes + rank * Tile::kHalfOfRowBytes, a.x_map,
                    chunk * kHeadChunk, static_cast<int>(rank) * (Tile::kRows / 2),
                    ring.Full(base));
      ring.Advance();
    }
    ahead = 0;
  }
}

// `token`: this lane's first one.
template <typename Tile>
__device__ __forceinline__ void StoreLogits(const HeadArgs& a, int token, uint64_t kept,
                                            typename Tile::Sums& sums) {
  if (!__any_sync(~0u, kept != 0)) return;
  if (token >= a.vocab_size) kept = 0;
  float* row = a.logits + Tile::RowOf(0) * a.logits_stride + token;
#pragma unroll
  for (int r = 0; r < Tile::kLaneRows; ++r) {
    if ((kept >> r & 1) != 0) {
      *reinterpret_cast<float2*>(row) = {Tile::SumOf(sums, r, 0), Tile::SumOf(sums, r, 1)};
    }
    row += (r % 2 == 0 ? 1 : 7) * a.logits_stride;
  }
}

// What is no token counts as -inf, unless it is NaN. `token`: this lane's first one.
template <typename Tile>
__device__ __forceinline__ void CutSums(const HeadArgs& a, int token, typename Tile::Sums& sums) {
#pragma unroll
  for (int second = 0; second < 2; ++second) {
    if (token + second < a.num_valid) continue;
#pragma unroll
    for (int r = 0; r < Tile::kLaneRows; ++r) {
      float& sum = Tile::SumOf(sums, r, second);
      sum = sum != sum ? sum : -Infinity();
    }
  }
}

// What a lane keeps of two rows: the lower one, or with `kLane` set the upper one, the better of
// its own value and of what that other lane has. Whether that is the other's becomes bit `r` of
// `won`.
template <int kLane>
__device__ __forceinline__ float TakeBetter(float lower, float upper, int r, uint32_t* won) {
  const bool is_upper = (threadIdx.x & kLane) != 0;
  const float mine = is_upper ? upper : lower;
  const float other = __shfl_xor_sync(~0u, is_upper ? lower : upper, kLane);
  // The upper lane's tokens are the later ones: between equals the lower lane's wins.
  if (other > mine || (is_upper && other == mine)) *won |= 1u << r;
  return MaxOrNan(mine, other);
}

// Puts the best of each row into this warp's places where it is better than what is there; some
// rows of a lane at a time. `token`: this warp's first one.
template <typename Tile>
__device__ __forceinline__ void KeepBest(int token, typename Tile::Sums& sums, uint64_t* places) {
  constexpr int kPart = Tile::kLaneRows < 32 ? Tile::kLaneRows : 32;
  const int lane = threadIdx.x % 32;
  // Of the rows that stay here.
  const int first =
      (lane & 4) / 4 * (kPart / 2) + (lane & 8) / 8 * (kPart / 4) + (lane & 16) / 16 * (kPart / 8);
#pragma unroll
  for (int part = 0; part < Tile::kLaneRows; part += kPart) {
    uint32_t second = 0;  // bit r: this lane's second token is better
    uint32_t won4 = 0, won8 = 0, won16 = 0;
    const auto better = [&](int r) {
      const float x = Tile::SumOf(sums, part + r, 0);
      const float y = Tile::SumOf(sums, part + r, 1);
      if (y > x) second |= 1u << r;
      return MaxOrNan(x, y);
    };
    float values[kPart / 2];
#pragma unroll
    for (int r = 0; r < kPart / 2; ++r) {
      values[r] = TakeBetter<4>(better(r), better(r + kPart / 2), r, &won4);
    }
#pragma unroll
    for (int r = 0; r < kPart / 4; ++r) {
      values[r] = TakeBetter<8>(values[r], values[r + kPart / 4], r, &won8);
    }
#pragma unroll
    for (int r = 0; r < kPart / 8; ++r) {
      values[r] = TakeBetter<16>(values[r], values[r + kPart / 8], r, &won16);
    }
#pragma unroll
    for (int r = 0; r < kPart / 8; ++r) {
      // Back to the lane that the value came from.
      const int row = first + r;
      int from = lane ^ (won16 >> r & 1) << 4;
      from ^= (__shfl_sync(~0u, won8, from) >> row % (kPart / 4) & 1) << 3;
      from ^= (__shfl_sync(~0u, won4, from) >> row % (kPart / 2) & 1) << 2;
      const int is_second = __shfl_sync(~0u, second, from) >> row & 1;
      const uint64_t found = BestToken(values[r], token + from / 4 * 2 + is_second);
      uint64_t& place = places[Tile::RowOf(part + row)];
      if (found > place) place = found;
    }
  }
}

template <typename Tile>
__device__ __forceinline__ void MultiplyHead(const HeadArgs& a, uint32_t base, char* shared,
                                             uint32_t rank) {
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const HeadFlags& flags = *reinterpret_cast<const HeadFlags*>(shared + Tile::kFlags);
  auto* const all = reinterpret_cast<uint64_t*>(shared + Tile::kPlaces);
  uint64_t* const places = all + warp * Tile::kRows;
  for (int i = lane; i < Tile::kRows; i += 32) places[i] = 0;
  WaitForProducers();
  StageRing<Tile> ring;
  for (int unit = blockIdx.x / 2; unit < a.num_units; unit += gridDim.x / 2) {
    typename Tile::Sums sums;
    MultiplyOfPair<kHeadChunk>(a, base, threadIdx.x / 128, &ring, sums);
    if (unit == static_cast<int>(blockIdx.x) / 2) {  // the first: the flags are there
      SyncThreads(2, Tile::kMultipliers + Tile::kFlaggers);
    }
    const int first = (unit * 2 + static_cast<int>(rank)) * kHeadTokens + warp * 16;
    const int token = first + lane / 4 * 2;
    StoreLogits<Tile>(a, token, flags[lane % 4], sums);
    if (first + 16 > a.num_valid) CutSums<Tile>(a, token, sums);
    KeepBest<Tile>(first, sums, places);
    __syncwarp();
  }
  SyncThreads(1, Tile::kMultipliers);
  const int row = static_cast<int>(threadIdx.x);
  if (row >= a.num_rows) return;
  uint64_t best = 0;
#pragma unroll
  for (int w = 0; w < Tile::kWarps; ++w) best = max(best, all[w * Tile::kRows + row]);
  a.best[static_cast<int64_t>(row) * gridDim.x + blockIdx.x] = best;
}

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    HeadKernel(const __grid_constant__ HeadArgs a) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) char shared[];
  const uint32_t base = SharedAddress(shared);
  const uint32_t rank = blockIdx.x % 2;
  auto& flags = *reinterpret_cast<HeadFlags*>(shared + Tile::kFlags);
  if (threadIdx.x < 4) flags[threadIdx.x] = 0;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      InitBarrier(base + 8 * i, 1);
      InitBarrier(base + 8 * (Tile::kStages + i), 2 * Tile::kWarps);  // of both blocks
    }
    PublishBarriers();
  }
  SyncCluster();
  LetDependentsStart();
  if (threadIdx.x >= Tile::kMultipliers) {
    KeepRegisters<Tile::kLoaderRegisters>();
    const int thread = static_cast<int>(threadIdx.x) - Tile::kMultipliers;
    if (thread == 0) LoadHead<Tile>(a, base, rank);
    if (thread >= 32) {
      WaitForProducers();
      FlagRows<Tile>(a, thread - 32, flags);
      ArriveThreads(2, Tile::kMultipliers + Tile::kFlaggers);
    }
  } else {
    TakeRegisters<Tile::kRegisters>();
    MultiplyHead<Tile>(a, base, shared, rank);
  }
  __syncwarp();
  SyncCluster();  // the other block may still write here, or arrive at a barrier
#endif
}

}  // namespace mili::kernels::cuda

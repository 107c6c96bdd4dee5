// What the roles of Hopper's varlen attention share: the tiles a CTA walks through, the shared
// memory of the ring and the queries, and the barriers of both.
#pragma once

#include "kernels/cuda/attention/varlen_args.h"
#include "kernels/cuda/common/bulk_copy.cuh"
#include "kernels/cuda/common/wgmma.cuh"

namespace mili::kernels::cuda {

inline constexpr int kHopperThreads = 3 * 128;
inline constexpr int kHopperBlock = kVarlenKeyBlock;

template <typename E, int kHeadDim>
struct HopperShared {
  static constexpr int kStages = kHeadDim == 128 ? 2 : 4;
  static constexpr int kHalves = kHeadDim / 64;  // a tile is split into columns of 128 bytes
  static constexpr uint32_t kQueryHalfBytes = 64 * 128;
  static constexpr uint32_t kHalfBytes = kHopperBlock * 128;
  static constexpr uint32_t kTileBytes = kHalves * kHalfBytes;

  // Two tiles of queries, a warpgroup's rows each; a tile's output takes the place of its queries.
  uint8_t q[2][2][kHalves * kQueryHalfBytes];
  uint8_t k[kStages][kTileBytes];
  uint8_t v[kStages][kTileBytes];
  uint64_t full_k[kStages], empty_k[kStages];
  uint64_t full_v[kStages], empty_v[kStages];
  uint64_t full_q[2][2], empty_q[2][2];

  // Byte of a 16-byte chunk in a tile whose halves are half_bytes long.
  __device__ __forceinline__ static uint32_t Swizzled(uint32_t half_bytes, int row, int chunk) {
    return static_cast<uint32_t>(chunk / 8) * half_bytes +
           static_cast<uint32_t>(row * 128 + ((chunk % 8) ^ (row & 7)) * 16);
  }

  __device__ __forceinline__ void InitBarriers() {
    for (int i = 0; i < kStages; ++i) {
      InitBarrier(SharedAddress(&full_k[i]), 1);
      InitBarrier(SharedAddress(&full_v[i]), 1);
      InitBarrier(SharedAddress(&empty_k[i]), 8);  // the warps of both warpgroups
      InitBarrier(SharedAddress(&empty_v[i]), 8);
    }
    for (int i = 0; i < 4; ++i) {
      InitBarrier(SharedAddress(&full_q[i / 2][i % 2]), 32);
      InitBarrier(SharedAddress(&empty_q[i / 2][i % 2]), 4);
    }
    PublishBarriers();
  }
};

// A place in a ring of kStages, and the parity of its phase.
template <int kStages>
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// The tiles of this CTA with their KV head: of each round of tiles one, forwards and backwards in
// turn, so that the sums of the tiles' keys, which fall, come out alike. A tile is loaded while the
// one before it is at work.
template <bool kHasParts>
struct TileWalk {
  const VarlenArgs& p;
  VarlenTile tile = {};
  int32_t kv_head = 0;
  int32_t round = 0;
  int4 next[2] = {};
  int32_t next_kv_head = 0;

  __device__ __forceinline__ void LoadNext() {
    const auto num_ctas = static_cast<int32_t>(gridDim.x);
    const auto cta = static_cast<int32_t>(blockIdx.x);
    const int32_t i = round * num_ctas + (round % 2 == 0 ? cta : num_ctas - 1 - cta);
    ++round;
    next[0].x = -1;
    if (i >= p.num_tiles * p.num_kv_heads) return;
    const int32_t tile_idx = i / p.num_kv_heads;
    const auto* from = reinterpret_cast<const int4*>(p.plan + tile_idx);
    next[0] = __ldg(from);
    next[1] = __ldg(from + 1);
    next_kv_head = i - tile_idx * p.num_kv_heads;
  }
  // Once LoadNext was called for the first tile.
  __device__ __forceinline__ bool Next() {
    tile = {next[0].x, next[0].y, next[0].z, next[0].w, next[1].x, next[1].y, next[1].z, next[1].w};
    kv_head = next_kv_head;
    if (tile.seq < 0) return false;
    LoadNext();
    return true;
  }
  __device__ __forceinline__ int32_t FirstBlock() const {
    return kHasParts ? tile.first_key / kHopperBlock : 0;
  }
  __device__ __forceinline__ int32_t LastBlock() const { return (tile.end_key - 1) / kHopperBlock; }
};

// Every kStep-th row of a tile from `first_row` on, in an array with `stride` elements between
// tokens. Counts, since dividing by the group for each row would cost more than copying it.
template <int kStep, int kHeadDim>
struct RowWalk {
  const int32_t group;
  const int32_t step_tokens;
  const int32_t step_heads;
  const int32_t step;  // elements
  const int32_t wrap;  // elements from behind a token's heads to the next token's
  int32_t token;       // of the tile
  int32_t head;        // of the group
  int32_t offset;      // elements from the first head of the tile's first token

  __device__ __forceinline__ RowWalk(int32_t group, int64_t stride, int first_row)
      : group(group),
        step_tokens(kStep / group),
        step_heads(kStep - step_tokens * group),
        step(step_tokens * static_cast<int32_t>(stride) + step_heads * kHeadDim),
        wrap(static_cast<int32_t>(stride) - group * kHeadDim),
        token(first_row / group),
        head(first_row - token * group),
        offset(token * static_cast<int32_t>(stride) + head * kHeadDim) {}
  __device__ __forceinline__ void Advance() {
    token += step_tokens;
    head += step_heads;
    offset += step;
    if (head >= group) {
      head -= group;
      ++token;
      offset += wrap;
    }
  }
};

}  // namespace mili::kernels::cuda

// What the roles of Hopper's varlen attention share: the tiles a CTA walks through, the shared
// memory of the ring and the queries, and the barriers of both.
#pragma once

#include "kernels/cuda/attention/varlen_args.h"
#include "kernels/cuda/common/bulk_copy.cuh"
#include "kernels/cuda/common/wgmma.cuh"

namespace mili::kernels::cuda {

inline constexpr int kHopperThreads = 3 * 128;
inline constexpr int kHopperBlock = 128;  // keys

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
// turn, so that the sums of the tiles' keys, which fall, come out alike.
struct TileWalk {
  const VarlenArgs& p;
  VarlenTile tile = {};
  int32_t kv_head = 0;
  int32_t round = 0;

  __device__ __forceinline__ bool Next() {
    const auto num_ctas = static_cast<int32_t>(gridDim.x);
    const auto cta = static_cast<int32_t>(blockIdx.x);
    const int32_t i = round * num_ctas + (round % 2 == 0 ? cta : num_ctas - 1 - cta);
    ++round;
    if (i >= p.num_tiles * p.num_kv_heads) return false;
    const auto* from = reinterpret_cast<const int4*>(p.plan + i / p.num_kv_heads);
    const int4 a = __ldg(from);
    const int4 b = __ldg(from + 1);
    tile = {a.x, a.y, a.z, a.w, b.x, b.y, {}};
    kv_head = i % p.num_kv_heads;
    return tile.seq >= 0;
  }
  __device__ __forceinline__ int32_t NumBlocks() const {
    return (tile.num_keys + kHopperBlock - 1) / kHopperBlock;
  }
  // A row's token in the sequence; num_tokens or more if the row is none.
  __device__ __forceinline__ int32_t TokenOf(int row) const {
    return row < p.tokens_per_tile * p.group ? tile.first_token + row / p.group : tile.num_tokens;
  }
  __device__ __forceinline__ int64_t HeadOf(int row) const {
    return kv_head * p.group + row % p.group;
  }
};

}  // namespace mili::kernels::cuda

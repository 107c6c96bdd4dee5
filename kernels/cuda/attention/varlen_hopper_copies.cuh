// The copies of Hopper's varlen attention: one warp fills the ring of K and V, by a box of the
// tensor map for each page, and one warp for each warpgroup of products brings its queries. All run
// ahead of the products, over the ends of tiles.
#pragma once

#include "kernels/cuda/attention/varlen_hopper_shared.cuh"
#include "kernels/cuda/common/cp_async.cuh"

namespace mili::kernels::cuda {

template <typename E, int kHeadDim, bool kHasParts>
struct HopperCopies {
  using Element = typename E::Type;
  using Shared = HopperShared<E, kHeadDim>;
  static constexpr int kStages = Shared::kStages;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, in a row
  static constexpr int kBlockPages = kHopperBlock / kPageTokens;
  static constexpr uint32_t kPageBytes = kPageTokens * kHeadDim * 2;  // K or V of a head

  const VarlenArgs& p;
  Shared& shared;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  TileWalk<kHasParts> at = {p};

  // --- K and V. Lane l copies of page l % 8 of the block half l / 8 % 2 of K (below lane 16) or V.

  // Page at this lane's place in the block; one that does not exist, and so is copied as zeros,
  // behind the last key.
  __device__ __forceinline__ int32_t PageOf(int32_t block) const {
    const int32_t page = block * kBlockPages + lane % kBlockPages;
    if (block < 0 || page * kPageTokens >= at.tile.end_key) return p.num_pages;
    return __ldg(p.page_table + static_cast<int64_t>(at.tile.seq) * p.page_table_stride + page);
  }

  // Writes V of the page that the tile's keys fill only in part, zeros behind them: whatever lies
  // there in the cache could be NaN, and 0 * NaN is NaN.
  __device__ __forceinline__ void WriteLastPage(int32_t page, int place, uint8_t* v_tile) {
    const int num_rows = at.tile.end_key % kPageTokens;
    const auto* from = reinterpret_cast<const uint4*>(
        static_cast<const Element*>(p.kv) + page * p.page_stride +
        static_cast<int64_t>(p.num_kv_heads + at.kv_head) * (kPageTokens * kHeadDim));
#pragma unroll 1  // this warp has few registers
    for (int i = 0; i < kChunks / 2; ++i) {
      const int chunk = i * 32 + lane;
      const int row = chunk / kChunks;
      const uint4 value = row < num_rows ? from[chunk] : uint4{0, 0, 0, 0};
      *reinterpret_cast<uint4*>(v_tile + Shared::Swizzled(Shared::kHalfBytes,
                                                          place * kPageTokens + row,
                                                          chunk % kChunks)) = value;
    }
    PublishToTensorCores();
    __syncwarp();
  }

  __device__ __forceinline__ void CopyKeysAndValues(const CUtensorMap& map) {
    const int place = lane % kBlockPages;
    const int half = lane / kBlockPages % 2;
    const bool is_k = lane < 16 && half < Shared::kHalves;
    const bool is_v = lane >= 16 && half < Shared::kHalves;
    const uint32_t offset = static_cast<uint32_t>(half) * Shared::kHalfBytes +
                            static_cast<uint32_t>(place) * (kPageTokens * 128);
    RingPlace<kStages> ring;
    ring.parity = 1;  // the ring is empty
    at.LoadNext();
    while (at.Next()) {
      const int32_t last = at.LastBlock();
      int32_t page = PageOf(last);
      for (int32_t block = last; block >= at.FirstBlock(); --block) {
        const uint32_t full_k = SharedAddress(&shared.full_k[ring.stage]);
        const uint32_t full_v = SharedAddress(&shared.full_v[ring.stage]);
        const int32_t next_page = PageOf(block - 1);
        WaitForPhase(SharedAddress(&shared.empty_k[ring.stage]), ring.parity);
        if (lane == 0) ArriveExpecting(full_k, Shared::kTileBytes);
        __syncwarp();
        if (is_k) {
          CopyBox(SharedAddress(shared.k[ring.stage]) + offset, map, half * 64, 0, at.kv_head, page,
                  full_k);
        }
        WaitForPhase(SharedAddress(&shared.empty_v[ring.stage]), ring.parity);
        int last_place = -1;
        if (block == last && at.tile.end_key % kPageTokens != 0) {
          last_place = at.tile.end_key / kPageTokens % kBlockPages;
          WriteLastPage(__shfl_sync(0xffffffffu, page, last_place), last_place,
                        shared.v[ring.stage]);
        }
        if (lane == 0) {
          ArriveExpecting(full_v, Shared::kTileBytes - (last_place >= 0 ? kPageBytes : 0));
        }
        __syncwarp();
        if (is_v && place != last_place) {
          CopyBox(SharedAddress(shared.v[ring.stage]) + offset, map, half * 64, 0,
                  p.num_kv_heads + at.kv_head, page, full_v);
        }
        page = next_page;
        ring.Advance();
      }
    }
  }

  // --- Queries: the 64 rows of a warpgroup, zeros for rows that are none.

  __device__ __forceinline__ void CopyQueries(int warpgroup) {
    RingPlace<2> ring;
    ring.parity = 1;
    constexpr int kRows = 32 / kChunks;  // at once
    const int chunk = lane % kChunks;
    const RowWalk<kRows, kHeadDim> first(p.group, p.q_stride, warpgroup * 64 + lane / kChunks);
    at.LoadNext();
    while (at.Next()) {
      WaitForPhase(SharedAddress(&shared.empty_q[ring.stage][warpgroup]), ring.parity);
      const uint32_t to = SharedAddress(shared.q[ring.stage][warpgroup]);
      const auto* tile = static_cast<const Element*>(p.q) + at.tile.first_row * p.q_stride +
                         at.kv_head * p.group * kHeadDim + chunk * 8;
      auto rows = first;
#pragma unroll 2
      for (int row = lane / kChunks; row < 64; row += kRows) {
        const bool is_valid = rows.token < at.tile.num_tokens;
        CopyAsync16OrZero(to + Shared::Swizzled(Shared::kQueryHalfBytes, row, chunk),
                          tile + (is_valid ? rows.offset : 0), is_valid);
        rows.Advance();
      }
      CommitCopies();
      WaitForCopies<0>();
      PublishToTensorCores();
      Arrive(SharedAddress(&shared.full_q[ring.stage][warpgroup]));
      ring.Advance();
    }
  }
};

}  // namespace mili::kernels::cuda

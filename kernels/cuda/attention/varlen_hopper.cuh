// Varlen attention for Hopper. A CTA owns one tile of 128 query rows (plan.h: a row is a token and
// a query head of the group). One warp copies blocks of 128 keys into a ring, a box of the tensor
// map for each page; two warpgroups of 64 rows multiply. They take turns at the tensor cores, so
// that the softmax of one runs under the products of the other, and each starts the scores of the
// next block before it adds the values of this one. Blocks go from the last to the first: those
// that need the causal mask come first.
#pragma once

#include "kernels/cuda/attention/varlen_args.h"
#include "kernels/cuda/common/bulk_copy.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/wgmma.cuh"

namespace mili::kernels::cuda {

inline constexpr int kHopperThreads = 3 * 128;
inline constexpr int kHopperBlock = 128;  // keys
inline constexpr int kHopperStages = 2;

template <typename E, int kHeadDim>
struct HopperCta {
  using Element = typename E::Type;
  static constexpr int kHalves = kHeadDim / 64;  // a tile is split into columns of 128 bytes
  static constexpr int kChunks = kHeadDim / 8;   // of 16 bytes, in a row
  static constexpr int kBlockPages = kHopperBlock / kPageTokens;
  static constexpr uint32_t kQueryHalfBytes = 64 * 128;
  static constexpr uint32_t kHalfBytes = kHopperBlock * 128;
  static constexpr uint32_t kTileBytes = kHalves * kHalfBytes;
  static constexpr uint32_t kPageBytes = kPageTokens * kHeadDim * 2;  // K or V of a head

  struct Shared {
    uint8_t q[2][kHalves * kQueryHalfBytes];  // a warpgroup each; takes the output at the end
    uint8_t k[kHopperStages][kTileBytes];
    uint8_t v[kHopperStages][kTileBytes];
    uint64_t full_k[kHopperStages], empty_k[kHopperStages];
    uint64_t full_v[kHopperStages], empty_v[kHopperStages];
  };

  const VarlenArgs& p;
  Shared& shared;
  // 0, 1: products; 2: copies. By a shuffle, so that the compiler knows that warps do not diverge.
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const int lane = static_cast<int>(threadIdx.x) % 32;

  VarlenTile tile;
  int32_t kv_head;
  int32_t first_row;    // of the sequence in q and out
  int32_t len;          // rows of the sequence
  int32_t context_len;  // of the sequence
  int32_t num_keys;     // that the tile's last token sees
  int32_t num_blocks;

  // Byte of a 16-byte chunk in a tile whose halves are half_bytes long.
  __device__ __forceinline__ static uint32_t Swizzled(uint32_t half_bytes, int row, int chunk) {
    return static_cast<uint32_t>(chunk / 8) * half_bytes +
           static_cast<uint32_t>(row * 128 + ((chunk % 8) ^ (row & 7)) * 16);
  }

  __device__ __forceinline__ bool Enter() {
    tile = p.plan[static_cast<int32_t>(blockIdx.x) / p.num_kv_heads];
    if (tile.seq < 0) return false;
    kv_head = static_cast<int32_t>(blockIdx.x) % p.num_kv_heads;
    first_row = p.cu_seqlens[tile.seq];
    len = p.cu_seqlens[tile.seq + 1] - first_row;
    context_len = p.context_lens[tile.seq];
    num_keys = context_len - len + min(tile.first_token + p.tokens_per_tile, len);
    num_blocks = (num_keys + kHopperBlock - 1) / kHopperBlock;
    return true;
  }

  __device__ __forceinline__ void InitBarriers() {
    for (int i = 0; i < kHopperStages; ++i) {
      InitBarrier(SharedAddress(&shared.full_k[i]), 1);
      InitBarrier(SharedAddress(&shared.full_v[i]), 1);
      InitBarrier(SharedAddress(&shared.empty_k[i]), 8);  // the warps of both warpgroups
      InitBarrier(SharedAddress(&shared.empty_v[i]), 8);
    }
    PublishBarriers();
  }

  // --- Copies: one warp. Lane l copies of page l % 8 of the block half l / 8 % 2 of K (below lane
  // 16) or V.

  // Page behind this lane's place in the block; one that does not exist, and so is copied as zeros,
  // behind the last key.
  __device__ __forceinline__ int32_t PageOf(int32_t block) const {
    const int32_t page = block * kBlockPages + lane % kBlockPages;
    if (block < 0 || page * kPageTokens >= num_keys) return p.num_pages;
    return __ldg(p.page_table + static_cast<int64_t>(tile.seq) * p.page_table_stride + page);
  }

  // Writes V of the page that the sequence fills only in part, zeros behind its end: whatever lies
  // there in the cache could be NaN, and 0 * NaN is NaN.
  __device__ __forceinline__ void WriteLastPage(int32_t page, int place, uint8_t* v_tile) {
    const int num_rows = num_keys % kPageTokens;
    const auto* from = reinterpret_cast<const uint4*>(
        static_cast<const Element*>(p.kv) + page * p.page_stride +
        static_cast<int64_t>(p.num_kv_heads + kv_head) * (kPageTokens * kHeadDim));
#pragma unroll 1  // this warp has few registers
    for (int i = 0; i < kChunks / 2; ++i) {
      const int chunk = i * 32 + lane;
      const int row = chunk / kChunks;
      const uint4 value = row < num_rows ? from[chunk] : uint4{0, 0, 0, 0};
      *reinterpret_cast<uint4*>(
          v_tile + Swizzled(kHalfBytes, place * kPageTokens + row, chunk % kChunks)) = value;
    }
    PublishToTensorCores();
    __syncwarp();
  }

  __device__ __forceinline__ void Produce(const CUtensorMap& map) {
    const int place = lane % kBlockPages;
    const int half = lane / kBlockPages % 2;
    const bool is_k = lane < 16 && half < kHalves;
    const bool is_v = lane >= 16 && half < kHalves;
    const uint32_t offset = static_cast<uint32_t>(half) * kHalfBytes +
                            static_cast<uint32_t>(place) * (kPageTokens * 128);
    int32_t page = PageOf(num_blocks - 1);
    for (int32_t i = 0; i < num_blocks; ++i) {
      const int stage = i % kHopperStages;
      const uint32_t parity = (static_cast<uint32_t>(i / kHopperStages) & 1) ^ 1;
      const uint32_t full_k = SharedAddress(&shared.full_k[stage]);
      const uint32_t full_v = SharedAddress(&shared.full_v[stage]);
      const int32_t next_page = PageOf(num_blocks - 2 - i);
      WaitForPhase(SharedAddress(&shared.empty_k[stage]), parity);
      if (lane == 0) ArriveExpecting(full_k, kTileBytes);
      __syncwarp();
      if (is_k) {
        CopyBox(SharedAddress(shared.k[stage]) + offset, map, half * 64, 0, kv_head, page, full_k);
      }
      WaitForPhase(SharedAddress(&shared.empty_v[stage]), parity);
      int last_place = -1;
      if (i == 0 && num_keys % kPageTokens != 0) {
        last_place = num_keys / kPageTokens % kBlockPages;
        WriteLastPage(__shfl_sync(0xffffffffu, page, last_place), last_place, shared.v[stage]);
      }
      if (lane == 0) ArriveExpecting(full_v, kTileBytes - (last_place >= 0 ? kPageBytes : 0));
      __syncwarp();
      if (is_v && place != last_place) {
        CopyBox(SharedAddress(shared.v[stage]) + offset, map, half * 64, 0,
                p.num_kv_heads + kv_head, page, full_v);
      }
      page = next_page;
    }
  }

  // --- Products: a warpgroup of 64 rows. This thread's rows are RowOf(0) and RowOf(1).

  float o[kHeadDim / 2];
  float m[2] = {-INFINITY, -INFINITY};
  float l[2] = {0, 0};  // of this thread's keys only

  __device__ __forceinline__ int RowOf(int half) const {
    return warpgroup * 64 + thread / 32 * 16 + lane / 4 + half * 8;
  }
  // The row's token in the sequence; len or more if the row is none.
  __device__ __forceinline__ int32_t TokenOf(int row) const {
    return row < p.tokens_per_tile * p.group ? tile.first_token + row / p.group : len;
  }
  __device__ __forceinline__ int64_t HeadOf(int row) const {
    return kv_head * p.group + row % p.group;
  }
  __device__ __forceinline__ void SyncWarpgroup() const { SyncThreads(4 + warpgroup, 128); }

  __device__ __forceinline__ void LoadQuery() {
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      const int chunk = i * 128 + thread;
      const int row = chunk / kChunks;
      const int32_t token = TokenOf(warpgroup * 64 + row);
      uint4 value = {0, 0, 0, 0};
      if (token < len) {
        value = reinterpret_cast<const uint4*>(
            static_cast<const Element*>(p.q) +
            (first_row + static_cast<int64_t>(token)) * p.q_stride +
            HeadOf(warpgroup * 64 + row) * kHeadDim)[chunk % kChunks];
      }
      *reinterpret_cast<uint4*>(shared.q[warpgroup] +
                                Swizzled(kQueryHalfBytes, row, chunk % kChunks)) = value;
    }
    PublishToTensorCores();
    SyncWarpgroup();
  }

  __device__ __forceinline__ void StoreOutput() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = l[half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float inverse = 1.0f / sum;
      const int row = RowOf(half) % 64;
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        *reinterpret_cast<uint32_t*>(shared.q[warpgroup] + Swizzled(kQueryHalfBytes, row, i) +
                                     lane % 4 * 4) =
            E::Pack(o[4 * i + 2 * half] * inverse, o[4 * i + 2 * half + 1] * inverse);
      }
    }
    SyncWarpgroup();
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      const int chunk = i * 128 + thread;
      const int row = chunk / kChunks;
      const int32_t token = TokenOf(warpgroup * 64 + row);
      if (token >= len) continue;
      reinterpret_cast<uint4*>(static_cast<Element*>(p.out) +
                               (first_row + static_cast<int64_t>(token)) * p.out_stride +
                               HeadOf(warpgroup * 64 + row) * kHeadDim)[chunk % kChunks] =
          *reinterpret_cast<const uint4*>(shared.q[warpgroup] +
                                          Swizzled(kQueryHalfBytes, row, chunk % kChunks));
    }
  }

  __device__ __forceinline__ void StartScores(float (&s)[kHopperBlock / 2], int stage) {
    const uint64_t q = TileDescriptor(SharedAddress(shared.q[warpgroup]), 16);
    const uint64_t k = TileDescriptor(SharedAddress(shared.k[stage]), 16);
    FenceProducts();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      ProductOfTiles<E, kHopperBlock>(s, q + (i / 4 * kQueryHalfBytes + i % 4 * 32) / 16,
                                      k + (i / 4 * kHalfBytes + i % 4 * 32) / 16, i == 0);
    }
    CommitProducts();
  }

  __device__ __forceinline__ void StartValues(const uint32_t (&probs)[kHopperBlock / 16][4],
                                              int stage) {
    const uint64_t v = TileDescriptor(SharedAddress(shared.v[stage]), kHalfBytes);
    FenceProducts();
#pragma unroll
    for (int i = 0; i < kHopperBlock / 16; ++i) {
      ProductOfRegisters<E, kHeadDim>(o, probs[i], v + i * (16 * 128 / 16));
    }
    CommitProducts();
  }

  // Masks the scores of a block, turns them into probabilities, moves m and l on. Returns the
  // factors by which the rows of o have to be multiplied.
  __device__ __forceinline__ float2 Softmax(float (&s)[kHopperBlock / 2], int32_t block) {
    const int32_t first_key = block * kHopperBlock;
    const int32_t offset = context_len - len;  // position of the sequence's first row
    if (first_key + kHopperBlock > offset + tile.first_token + 1) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int32_t limit = offset + TokenOf(RowOf(half)) - first_key - lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < kHopperBlock / 8; ++i) {
          if (8 * i > limit) s[4 * i + 2 * half] = -INFINITY;
          if (8 * i + 1 > limit) s[4 * i + 2 * half + 1] = -INFINITY;
        }
      }
    }
    float alpha[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = m[half];
#pragma unroll
      for (int i = 0; i < kHopperBlock / 8; ++i) {
        top = fmaxf(top, fmaxf(s[4 * i + 2 * half], s[4 * i + 2 * half + 1]));
      }
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      const float anchor = top == -INFINITY ? 0 : top * p.scale_log2;
      alpha[half] = Exp2(m[half] * p.scale_log2 - anchor);
      m[half] = top;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kHopperBlock / 8; ++i) {
#pragma unroll
        for (int j = 4 * i + 2 * half; j < 4 * i + 2 * half + 2; ++j) {
          s[j] = Exp2(s[j] * p.scale_log2 - anchor);
          sum += s[j];
        }
      }
      l[half] = l[half] * alpha[half] + sum;
    }
    return {alpha[0], alpha[1]};
  }

  __device__ __forceinline__ static void PackProbs(const float (&s)[kHopperBlock / 2],
                                                   uint32_t (&probs)[kHopperBlock / 16][4]) {
#pragma unroll
    for (int i = 0; i < kHopperBlock / 16; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) probs[i][j] = E::Pack(s[8 * i + 2 * j], s[8 * i + 2 * j + 1]);
    }
  }

  __device__ __forceinline__ void Release(uint64_t& barrier) const {
    __syncwarp();
    if (lane == 0) Arrive(SharedAddress(&barrier));
  }

  __device__ __forceinline__ void Consume() {
    // Warpgroup 0 has the first turn.
    if (warpgroup == 1) ArriveThreads(2, 256);
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) o[i] = 0;
    LoadQuery();
    float s[kHopperBlock / 2];
    uint32_t probs[kHopperBlock / 16][4];
    WaitForPhase(SharedAddress(&shared.full_k[0]), 0);
    StartScores(s, 0);
    WaitForProducts<0>();
    HoldRegisters(s);
    Release(shared.empty_k[0]);
    Softmax(s, num_blocks - 1);
    PackProbs(s, probs);
    int stage = 0;
    uint32_t parity = 0;
    for (int32_t block = num_blocks - 2; block >= 0; --block) {
      const int values_stage = stage;
      const uint32_t values_parity = parity;
      if (++stage == kHopperStages) {
        stage = 0;
        parity ^= 1;
      }
      WaitForPhase(SharedAddress(&shared.full_k[stage]), parity);
      SyncThreads(2 + warpgroup, 256);
      StartScores(s, stage);
      WaitForPhase(SharedAddress(&shared.full_v[values_stage]), values_parity);
      StartValues(probs, values_stage);
      // The last turn of warpgroup 1 is followed by none.
      if (warpgroup == 0 || block > 0) ArriveThreads(3 - warpgroup, 256);
      WaitForProducts<1>();
      HoldRegisters(s);
      Release(shared.empty_k[stage]);
      const float2 alpha = Softmax(s, block);
      WaitForProducts<0>();
      HoldRegisters(o);
      Release(shared.empty_v[values_stage]);
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) o[i] *= i % 4 < 2 ? alpha.x : alpha.y;
      PackProbs(s, probs);
    }
    WaitForPhase(SharedAddress(&shared.full_v[stage]), parity);
    StartValues(probs, stage);
    WaitForProducts<0>();
    HoldRegisters(o);
    StoreOutput();
  }
};

template <typename E, int kHeadDim>
__global__ void __launch_bounds__(kHopperThreads, 1)
    VarlenHopperKernel(const __grid_constant__ VarlenArgs p,
                       const __grid_constant__ CUtensorMap map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t bytes[];
  using Cta = HopperCta<E, kHeadDim>;
  const uint32_t misaligned = SharedAddress(bytes) % 1024;
  auto* shared = bytes + (misaligned == 0 ? 0 : 1024 - misaligned);
  Cta cta = {p, *reinterpret_cast<typename Cta::Shared*>(shared)};
  WaitForProducers();
  if (!cta.Enter()) return;
  if (threadIdx.x == 0) cta.InitBarriers();
  __syncthreads();
  if (cta.warpgroup == 2) {
    KeepRegisters<24>();
    if (cta.thread < 32) cta.Produce(map);
  } else {
    TakeRegisters<240>();
    cta.Consume();
  }
#endif
}

// One instance a type and head size, each in a source of its own. map: see EncodePagedKv.
template <typename E, int kHeadDim>
cudaError_t LaunchVarlenHopper(const VarlenArgs& args, const CUtensorMap& map, int32_t num_tiles,
                               bool pdl, cudaStream_t stream);

template <typename E, int kHeadDim>
cudaError_t LaunchVarlenHopperHere(const VarlenArgs& args, const CUtensorMap& map,
                                   int32_t num_tiles, bool pdl, cudaStream_t stream) {
  const auto kernel = &VarlenHopperKernel<E, kHeadDim>;
  constexpr int kSharedBytes = sizeof(typename HopperCta<E, kHeadDim>::Shared) + 1024;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error != cudaSuccess) return error;
  return Launch(kernel, dim3(static_cast<unsigned>(num_tiles * args.num_kv_heads)),
                dim3(kHopperThreads), kSharedBytes, pdl, stream, args, map);
}

}  // namespace mili::kernels::cuda

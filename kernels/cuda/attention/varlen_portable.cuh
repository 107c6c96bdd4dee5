// Varlen attention with mma.sync and cp.async, for every GPU from sm_80 on. A CTA owns one tile of
// 128 query rows (plan.h: a row is a token and a query head of the group) and walks through its
// keys in blocks of 64 in a ring of shared memory; each of eight warps holds 16 rows.
#pragma once

#include "kernels/cuda/attention/varlen_parts.cuh"
#include "kernels/cuda/common/cp_async.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/mma.cuh"

namespace mili::kernels::cuda {

inline constexpr int kVarlenWarps = kVarlenTileRows / 16;
inline constexpr int kVarlenBlock = 64;  // keys

template <typename E, int kHeadDim>
struct VarlenCta {
  using Element = typename E::Type;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, in a row
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kStages = 3;
  static constexpr int kTileBytes = kVarlenBlock * kHeadDim * 2;
  static constexpr int kSharedBytes = kStages * 2 * kTileBytes;
  static constexpr int kWarpRows = kVarlenBlock / kVarlenWarps;  // that a warp loads, half a page

  const VarlenArgs& p;
  const uint32_t ring;  // shared memory, [kStages][K|V][kVarlenBlock][kHeadDim], swizzled
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;

  VarlenTile tile;
  int32_t kv_head;

  // Of rows lane / 4 and lane / 4 + 8 of the warp.
  uint32_t q[kSteps][4];
  float o[kHeadDim / 8][4];
  float m[2] = {-INFINITY, -INFINITY};
  float l[2] = {0, 0};  // of this lane's keys only

  __device__ __forceinline__ static uint32_t Swizzled(int row, int chunk) {
    return static_cast<uint32_t>(row * kChunks + (chunk ^ (row & 7))) * 16;
  }
  // Of row half (0 or 1) of this lane: its token in the tile; the number of tokens or more if it is
  // none.
  __device__ __forceinline__ int32_t TokenOf(int half) const {
    return (warp * 16 + lane / 4 + half * 8) / p.group;
  }
  __device__ __forceinline__ int64_t HeadOf(int half) const {
    return kv_head * p.group + (warp * 16 + lane / 4 + half * 8) % p.group;
  }

  __device__ __forceinline__ int32_t PageOf(int32_t block) const {
    const int32_t page = block * (kVarlenBlock / kPageTokens) + warp / 2;
    if (page * kPageTokens >= tile.end_key) return -1;
    return __ldg(p.page_table + static_cast<int64_t>(tile.seq) * p.page_table_stride + page);
  }

  __device__ __forceinline__ void LoadBlock(int32_t block, int32_t page, int stage) {
    const int first = warp * kWarpRows;
    const int num_rows = tile.end_key - block * kVarlenBlock - first;
    const auto* k = static_cast<const Element*>(p.kv) + max(page, 0) * p.page_stride +
                    (kv_head * kPageTokens + first % kPageTokens) * kHeadDim;
    const auto* v = k + static_cast<int64_t>(p.num_kv_heads) * (kPageTokens * kHeadDim);
    const uint32_t to = ring + stage * 2 * kTileBytes;
#pragma unroll
    for (int i = 0; i < kWarpRows * kChunks / 32; ++i) {
      const int chunk = i * 32 + lane;
      const int row = chunk / kChunks;
      const uint32_t at = to + Swizzled(first + row, chunk % kChunks);
      CopyAsync16OrZero(at, k + chunk * 8, row < num_rows);
      CopyAsync16OrZero(at + kTileBytes, v + chunk * 8, row < num_rows);
    }
  }

  __device__ __forceinline__ void LoadQuery() {
    const auto* rows = static_cast<const Element*>(p.q);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t token = TokenOf(half);
      const bool is_valid = token < tile.num_tokens;
      const auto* from = reinterpret_cast<const uint32_t*>(
                             rows + (tile.first_row + static_cast<int64_t>(token)) * p.q_stride +
                             HeadOf(half) * kHeadDim) +
                         lane % 4;
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        q[i][half] = is_valid ? from[i * 8] : 0;
        q[i][half + 2] = is_valid ? from[i * 8 + 4] : 0;
      }
    }
#pragma unroll
    for (int i = 0; i < kHeadDim / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) o[i][j] = 0;
    }
  }

  __device__ __forceinline__ void AddBlock(int32_t block, int stage) {
    const uint32_t k_tile = ring + stage * 2 * kTileBytes;
    const uint32_t v_tile = k_tile + kTileBytes;
    float s[kVarlenBlock / 8][4] = {};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int n = 0; n < kVarlenBlock / 16; ++n) {
        uint32_t b[4];
        LoadMatrices(b, k_tile + Swizzled(n * 16 + lane % 8 + lane / 16 * 8, 2 * i + lane / 8 % 2));
        E::Mma(s[2 * n], q[i], b[0], b[1]);
        E::Mma(s[2 * n + 1], q[i], b[2], b[3]);
      }
    }
    const int32_t first_key = block * kVarlenBlock;
    if (first_key + kVarlenBlock > tile.first_position + warp * 16 / p.group) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int32_t position = tile.first_position + TokenOf(half);
#pragma unroll
        for (int n = 0; n < kVarlenBlock / 8; ++n) {
          const int32_t key = first_key + n * 8 + lane % 4 * 2;
          if (key > position) s[n][2 * half] = -INFINITY;
          if (key + 1 > position) s[n][2 * half + 1] = -INFINITY;
        }
      }
    }
    Softmax(s);
#pragma unroll
    for (int n = 0; n < kVarlenBlock / 16; ++n) {
      const uint32_t a[4] = {E::Pack(s[2 * n][0], s[2 * n][1]), E::Pack(s[2 * n][2], s[2 * n][3]),
                             E::Pack(s[2 * n + 1][0], s[2 * n + 1][1]),
                             E::Pack(s[2 * n + 1][2], s[2 * n + 1][3])};
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        uint32_t b[4];
        LoadMatricesTransposed(b, v_tile + Swizzled(n * 16 + lane % 16, 2 * i + lane / 16));
        E::Mma(o[2 * i], a, b[0], b[1]);
        E::Mma(o[2 * i + 1], a, b[2], b[3]);
      }
    }
  }

  // Scores to probabilities; moves the sums to the new maximum.
  __device__ __forceinline__ void Softmax(float (&s)[kVarlenBlock / 8][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = m[half];
#pragma unroll
      for (int n = 0; n < kVarlenBlock / 8; ++n) {
        top = fmaxf(top, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
      }
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      const float anchor = top == -INFINITY ? 0 : top * p.scale_log2;
      const float alpha = Exp2(m[half] * p.scale_log2 - anchor);
      m[half] = top;
      l[half] *= alpha;
#pragma unroll
      for (int n = 0; n < kVarlenBlock / 8; ++n) {
#pragma unroll
        for (int j = 2 * half; j < 2 * half + 2; ++j) {
          s[n][j] = Exp2(s[n][j] * p.scale_log2 - anchor);
          l[half] += s[n][j];
        }
      }
#pragma unroll
      for (int i = 0; i < kHeadDim / 8; ++i) {
        o[i][2 * half] *= alpha;
        o[i][2 * half + 1] *= alpha;
      }
    }
  }

  __device__ __forceinline__ void StoreOutput() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = l[half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const int32_t token = TokenOf(half);
      if (token >= tile.num_tokens) continue;
      const float inverse = 1.0f / sum;
      auto* to = reinterpret_cast<uint32_t*>(static_cast<Element*>(p.out) +
                                             (tile.first_row + static_cast<int64_t>(token)) *
                                                 p.out_stride +
                                             HeadOf(half) * kHeadDim) +
                 lane % 4;
#pragma unroll
      for (int i = 0; i < kHeadDim / 8; ++i) {
        to[i * 4] = E::Pack(o[i][2 * half] * inverse, o[i][2 * half + 1] * inverse);
      }
    }
  }

  // Leaves the sums of a part in the workspace, or adds those that lie there.
  __device__ __forceinline__ void PassPartsOn() {
    const VarlenParts<kHeadDim> parts = {p, warp / 4, static_cast<int>(threadIdx.x) % 128,
                                         1 + warp / 4};
    if (tile.num_gathered < 0) {
      parts.Leave(
          tile.slot, kv_head,
          [&](int i) {
            return float4{o[i][0], o[i][1], o[i][2], o[i][3]};
          },
          m, l);
    } else if (tile.num_gathered > 0) {
      parts.Gather(tile.slot, tile.num_gathered, kv_head, m, l,
                   [&](int i, const float4& quad, const float(&old)[2], const float(&weight)[2]) {
                     o[i][0] = o[i][0] * old[0] + quad.x * weight[0];
                     o[i][1] = o[i][1] * old[0] + quad.y * weight[0];
                     o[i][2] = o[i][2] * old[1] + quad.z * weight[1];
                     o[i][3] = o[i][3] * old[1] + quad.w * weight[1];
                   });
    }
  }

  __device__ __forceinline__ void Run() {
    tile = p.plan[blockIdx.x / p.num_kv_heads];
    if (tile.seq < 0) return;
    kv_head = static_cast<int32_t>(blockIdx.x) % p.num_kv_heads;
    const int32_t first_block = tile.first_key / kVarlenBlock;
    const int32_t end_block = (tile.end_key + kVarlenBlock - 1) / kVarlenBlock;

    int32_t page = PageOf(first_block);  // of the next block to load
    const auto load_next = [&](int32_t block, int stage) {
      if (block < end_block) {
        LoadBlock(block, page, stage);
        page = PageOf(block + 1);
      }
      CommitCopies();
    };
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) load_next(first_block + i, i);
    LoadQuery();
    const int32_t first_token = warp * 16 / p.group;  // of the warp
    const int32_t last_position =
        tile.first_position + min((warp * 16 + 15) / p.group, tile.num_tokens - 1);
    int stage = 0;
    for (int32_t block = first_block; block < end_block; ++block) {
      WaitForCopies<kStages - 2>();
      __syncthreads();  // all of the block is there, and all warps have left the one before
      load_next(block + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
      if (first_token < tile.num_tokens && block * kVarlenBlock <= last_position)
        AddBlock(block, stage);
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    PassPartsOn();
    if (tile.num_gathered >= 0) StoreOutput();
  }
};

template <typename E, int kHeadDim>
__global__ void __launch_bounds__(kVarlenWarps * 32, 1)
    VarlenPortableKernel(const __grid_constant__ VarlenArgs p) {
  extern __shared__ __align__(128) uint8_t bytes[];
  WaitForProducers();
  VarlenCta<E, kHeadDim> cta = {p, SharedAddress(bytes)};
  cta.Run();
}

// One instance a type and head size, each in a source of its own.
template <typename E, int kHeadDim>
cudaError_t LaunchVarlenPortable(const VarlenArgs& args, bool pdl, cudaStream_t stream);

template <typename E, int kHeadDim>
cudaError_t LaunchVarlenPortableHere(const VarlenArgs& args, bool pdl, cudaStream_t stream) {
  const auto kernel = &VarlenPortableKernel<E, kHeadDim>;
  constexpr int kSharedBytes = VarlenCta<E, kHeadDim>::kSharedBytes;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error != cudaSuccess) return error;
  return Launch(kernel, dim3(static_cast<unsigned>(args.num_tiles * args.num_kv_heads)),
                dim3(kVarlenWarps * 32), kSharedBytes, pdl, stream, args);
}

}  // namespace mili::kernels::cuda

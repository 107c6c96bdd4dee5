// Varlen attention for Hopper. A CTA for each SM walks through tiles of 128 query rows (plan.h: a
// row is a token and a query head of the group). Its copies run ahead (varlen_hopper_copies.cuh);
// two warpgroups of 64 rows multiply. They take turns at the tensor cores, so that the softmax of
// one runs under the products of the other, and each starts the scores of the next block before it
// adds the values of this one. Blocks go from the last to the first: those that need the causal
// mask come first.
#pragma once

#include <algorithm>

#include "kernels/cuda/attention/varlen_hopper_copies.cuh"
#include "kernels/cuda/attention/varlen_parts.cuh"
#include "kernels/cuda/common/launch.h"

namespace mili::kernels::cuda {

template <typename E, int kHeadDim, bool kHasParts>
struct HopperProducts {
  using Element = typename E::Type;
  using Shared = HopperShared<E, kHeadDim>;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, in a row

  const VarlenArgs& p;
  Shared& shared;
  const int warpgroup;  // 0 or 1
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  TileWalk<kHasParts> at = {p};
  const RowWalk<128 / kChunks, kHeadDim> first_out = {p.group, p.out_stride,
                                                      warpgroup * 64 + thread / kChunks};
  const int32_t token_of[2] = {RowOf(0) / p.group, RowOf(1) / p.group};  // of this thread's rows

  // This thread's rows are RowOf(0) and RowOf(1).
  float o[kHeadDim / 2];
  float m[2];
  float l[2];  // of this thread's keys only

  __device__ __forceinline__ int RowOf(int half) const {
    return warpgroup * 64 + thread / 32 * 16 + lane / 4 + half * 8;
  }
  __device__ __forceinline__ void SyncWarpgroup() const { SyncThreads(4 + warpgroup, 128); }

  __device__ __forceinline__ void StoreOutput(uint8_t* staging) {
    SyncWarpgroup();  // the last use of the queries is over
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = l[half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float inverse = 1.0f / sum;
      const int row = RowOf(half) % 64;
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        *reinterpret_cast<uint32_t*>(staging + Shared::Swizzled(Shared::kQueryHalfBytes, row, i) +
                                     lane % 4 * 4) =
            E::Pack(o[4 * i + 2 * half] * inverse, o[4 * i + 2 * half + 1] * inverse);
      }
    }
    SyncWarpgroup();
    const int chunk = thread % kChunks;
    auto* tile = static_cast<Element*>(p.out) + at.tile.first_row * p.out_stride +
                 at.kv_head * p.group * kHeadDim + chunk * 8;
    auto rows = first_out;
#pragma unroll
    for (int row = thread / kChunks; row < 64; row += 128 / kChunks) {
      if (rows.token < at.tile.num_tokens) {
        *reinterpret_cast<uint4*>(tile + rows.offset) = *reinterpret_cast<const uint4*>(
            staging + Shared::Swizzled(Shared::kQueryHalfBytes, row, chunk));
      }
      rows.Advance();
    }
  }

  __device__ __forceinline__ void StartScores(float (&s)[kHopperBlock / 2], const uint8_t* queries,
                                              int stage) {
    const uint64_t q = TileDescriptor(SharedAddress(queries), 16);
    const uint64_t k = TileDescriptor(SharedAddress(shared.k[stage]), 16);
    FenceProducts();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      ProductOfTiles<E, kHopperBlock>(s, q + (i / 4 * Shared::kQueryHalfBytes + i % 4 * 32) / 16,
                                      k + (i / 4 * Shared::kHalfBytes + i % 4 * 32) / 16, i == 0);
    }
    CommitProducts();
  }

  __device__ __forceinline__ void StartValues(const uint32_t (&probs)[kHopperBlock / 16][4],
                                              int stage) {
    const uint64_t v = TileDescriptor(SharedAddress(shared.v[stage]), Shared::kHalfBytes);
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
    if (first_key + kHopperBlock > at.tile.first_position + 1) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int32_t limit = at.tile.first_position + token_of[half] - first_key - lane % 4 * 2;
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

  __device__ __forceinline__ void MultiplyTile(RingPlace<Shared::kStages>& ring,
                                               const uint8_t* queries) {
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) o[i] = 0;
    m[0] = m[1] = -INFINITY;
    l[0] = l[1] = 0;
    const int32_t last = at.LastBlock();
    const int32_t first = at.FirstBlock();
    float s[kHopperBlock / 2];
    uint32_t probs[kHopperBlock / 16][4];
    WaitForPhase(SharedAddress(&shared.full_k[ring.stage]), ring.parity);
    StartScores(s, queries, ring.stage);
    WaitForProducts<0>();
    HoldRegisters(s);
    Release(shared.empty_k[ring.stage]);
    Softmax(s, last);
    PackProbs(s, probs);
    for (int32_t block = last - 1; block >= first; --block) {
      const RingPlace<Shared::kStages> values = ring;
      ring.Advance();
      WaitForPhase(SharedAddress(&shared.full_k[ring.stage]), ring.parity);
      SyncThreads(2 + warpgroup, 256);  // this warpgroup's turn
      StartScores(s, queries, ring.stage);
      WaitForPhase(SharedAddress(&shared.full_v[values.stage]), values.parity);
      StartValues(probs, values.stage);
      ArriveThreads(3 - warpgroup, 256);
      WaitForProducts<1>();
      HoldRegisters(s);
      Release(shared.empty_k[ring.stage]);
      const float2 alpha = Softmax(s, block);
      WaitForProducts<0>();
      HoldRegisters(o);
      Release(shared.empty_v[values.stage]);
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) o[i] *= i % 4 < 2 ? alpha.x : alpha.y;
      PackProbs(s, probs);
    }
    WaitForPhase(SharedAddress(&shared.full_v[ring.stage]), ring.parity);
    StartValues(probs, ring.stage);
    WaitForProducts<0>();
    HoldRegisters(o);
    Release(shared.empty_v[ring.stage]);
    ring.Advance();
  }

  // Leaves the sums of a part in the workspace, or adds those that lie there.
  __device__ __forceinline__ void PassPartsOn() {
    const VarlenParts<kHeadDim> parts = {p, warpgroup, thread, 4 + warpgroup};
    if (at.tile.num_gathered < 0) {
      parts.Leave(
          at.tile.slot, at.kv_head,
          [&](int i) {
            return float4{o[4 * i], o[4 * i + 1], o[4 * i + 2], o[4 * i + 3]};
          },
          m, l);
    } else if (at.tile.num_gathered > 0) {
      parts.Gather(at.tile.slot, at.tile.num_gathered, at.kv_head, m, l,
                   [&](int i, const float4& quad, const float(&old)[2], const float(&weight)[2]) {
                     o[4 * i] = o[4 * i] * old[0] + quad.x * weight[0];
                     o[4 * i + 1] = o[4 * i + 1] * old[0] + quad.y * weight[0];
                     o[4 * i + 2] = o[4 * i + 2] * old[1] + quad.z * weight[1];
                     o[4 * i + 3] = o[4 * i + 3] * old[1] + quad.w * weight[1];
                   });
    }
  }

  __device__ __forceinline__ void Run() {
    // Warpgroup 0 has the first turn, and at the end takes the one that is left.
    if (warpgroup == 1) ArriveThreads(2, 256);
    RingPlace<Shared::kStages> ring;
    RingPlace<2> tiles;
    at.LoadNext();
    while (at.Next()) {
      uint8_t* queries = shared.q[tiles.stage][warpgroup];
      WaitForPhase(SharedAddress(&shared.full_q[tiles.stage][warpgroup]), tiles.parity);
      MultiplyTile(ring, queries);
      if constexpr (kHasParts) PassPartsOn();
      if (!kHasParts || at.tile.num_gathered >= 0) StoreOutput(queries);
      Release(shared.empty_q[tiles.stage][warpgroup]);
      tiles.Advance();
    }
    if (warpgroup == 0) SyncThreads(2, 256);
  }
};

// kHasParts: whether the plan may cut keys. The instance without is 1 to 3 % faster.
template <typename E, int kHeadDim, bool kHasParts>
__global__ void __launch_bounds__(kHopperThreads, 1)
    VarlenHopperKernel(const __grid_constant__ VarlenArgs p,
                       const __grid_constant__ CUtensorMap map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t bytes[];
  using Shared = HopperShared<E, kHeadDim>;
  const uint32_t misaligned = SharedAddress(bytes) % 1024;
  auto& shared = *reinterpret_cast<Shared*>(bytes + (misaligned == 0 ? 0 : 1024 - misaligned));
  // By a shuffle, so that the compiler knows that warps do not diverge.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  if (threadIdx.x == 0) shared.InitBarriers();
  __syncthreads();
  WaitForProducers();
  LetDependentsStart();  // not sooner: decodes beside this take what was written ahead of it
  if (warp >= 8) {
    KeepRegisters<40>();  // with twice 232: what the launch bounds leave to three warpgroups
    HopperCopies<E, kHeadDim, kHasParts> copies = {p, shared};
    if (warp == 8) copies.CopyKeysAndValues(map);
    if (warp == 9 || warp == 10) copies.CopyQueries(warp - 9);
  } else {
    TakeRegisters<232>();
    HopperProducts<E, kHeadDim, kHasParts> products = {p, shared, warp / 4};
    products.Run();
  }
#endif
}

// One instance a type and head size, each in a source of its own. map: see EncodePagedKv.
template <typename E, int kHeadDim>
cudaError_t LaunchVarlenHopper(const VarlenArgs& args, const CUtensorMap& map, int32_t max_ctas,
                               bool pdl, cudaStream_t stream);

template <typename E, int kHeadDim>
cudaError_t LaunchVarlenHopperHere(const VarlenArgs& args, const CUtensorMap& map, int32_t max_ctas,
                                   bool pdl, cudaStream_t stream) {
  const auto kernel = args.parts != nullptr ? &VarlenHopperKernel<E, kHeadDim, true>
                                            : &VarlenHopperKernel<E, kHeadDim, false>;
  constexpr int kSharedBytes = sizeof(HopperShared<E, kHeadDim>) + 1024;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error != cudaSuccess) return error;
  const int32_t num_ctas = std::min(args.num_tiles * args.num_kv_heads, max_ctas);
  return Launch(kernel, dim3(static_cast<unsigned>(num_ctas)), dim3(kHopperThreads), kSharedBytes,
                pdl, stream, args, map);
}

}  // namespace mili::kernels::cuda

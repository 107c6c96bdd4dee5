// What one warp of decode attention does with pages of 16 tokens: it copies them into a ring of
// shared memory that only it fills and reads, and adds them to its softmax. Keys are the 16 rows of
// the MMA and the query heads of a group its 8 columns: S' = K Q', O' += V' P'. The warps of a CTA
// meet where a sequence and head ends.
#pragma once

#include "kernels/cuda/attention/decode_args.cuh"
#include "kernels/cuda/common/cache_hint.cuh"
#include "kernels/cuda/common/cp_async.cuh"
#include "kernels/cuda/common/mma.cuh"

namespace mili::kernels::cuda {

inline constexpr int kHeadsPerTile = 8;

template <typename E, int kHeadDim, int kTiles, int kWarps>
struct DecodePages {
  using Element = typename E::Type;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, in a row
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kTileBytes = kPageTokens * kHeadDim * 2;  // K or V of a page
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kBlock = DecodeBlock(kWarps);
  static constexpr bool kPairs = kWarps == kManyDecodeWarps;
  static constexpr int kStages = (kPairs ? 2 : 3) * (128 / kHeadDim);
  static constexpr int kRowFloats =
      kHeadDim + 4;  // of Shared::o; keeps its writes free of conflicts

  struct Shared {
    uint4 ring[kWarps][kStages][2][kTileBytes / 16];
    float o[kWarps][kHeadsPerTile][kRowFloats];
    float m[kWarps][kHeadsPerTile];
    float l[kWarps][kHeadsPerTile];
  };

  const DecodeArgs& p;
  Shared& shared;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  // All KV of a step is more than the L2 holds; what stays there is what all layers use, and code.
  const uint64_t policy = EvictFirst();

  // The softmax of one warp's keys of the current sequence and head. Lane l holds query heads
  // 8 * tile + 2 * (l % 4) and the next.
  uint32_t q[kTiles][kSteps][2];
  float o[kTiles][kSteps][4];  // rows are elements of the head
  float m[kTiles][2];
  float l[kTiles][2];  // of this lane's keys only

  // Where a chunk of a tile lies. Tiles begin at multiples of a row, so the place of a chunk whose
  // number differs in some bits (ChunkBits) is found by flipping them.
  __device__ __forceinline__ static uint32_t Swizzled(int row, int chunk) {
    return static_cast<uint32_t>(row * kChunks + (chunk ^ (row & 7))) * 16;
  }
  __device__ __forceinline__ static constexpr uint32_t ChunkBits(int chunk) { return chunk * 16; }

  // Starts the copy of a page of which num_keys are of the sequence; the tokens behind them become
  // zeros. Copies nothing for 0 or less.
  __device__ __forceinline__ void LoadPage(int32_t kv_head, int32_t page, int num_keys, int stage) {
    if (num_keys <= 0) return;
    const auto* k = static_cast<const Element*>(p.kv) + page * p.page_stride +
                    kv_head * (kPageTokens * kHeadDim);
    const auto* v = k + static_cast<int64_t>(p.num_kv_heads) * (kPageTokens * kHeadDim);
    constexpr int kRows = 32 / kChunks;  // that a warp copies at once
    const int row = lane / kChunks;
    const uint32_t to = SharedAddress(shared.ring[warp][stage][0]) + Swizzled(row, lane % kChunks);
    k += lane * 8;
    v += lane * 8;
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      CopyAsync16OrZero((to ^ ChunkBits(i * kRows % 8)) + i * 512, k + i * 256,
                        row + i * kRows < num_keys, policy);
    }
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      CopyAsync16OrZero((to ^ ChunkBits(i * kRows % 8)) + kTileBytes + i * 512, v + i * 256,
                        row + i * kRows < num_keys, policy);
    }
  }

  __device__ __forceinline__ void Begin(int32_t seq, int32_t kv_head) {
    const auto* row = static_cast<const Element*>(p.q) + seq * p.q_stride +
                      static_cast<int64_t>(kv_head) * p.group * kHeadDim;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const int head = t * kHeadsPerTile + lane / 4;
      const auto* from = reinterpret_cast<const uint32_t*>(row + head * kHeadDim) + lane % 4;
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        q[t][i][0] = head < p.group ? from[i * 8] : 0;
        q[t][i][1] = head < p.group ? from[i * 8 + 4] : 0;
#pragma unroll
        for (int j = 0; j < 4; ++j) o[t][i][j] = 0;
      }
      m[t][0] = m[t][1] = -INFINITY;
      l[t][0] = l[t][1] = 0;
    }
  }

  // Adds the page in `stage` and with kPages == 2 also the one in the next stage, a block further
  // on. num_keys: of the sequence, from the first page's beginning on; of the last page at least
  // one.
  template <int kPages>
  __device__ __forceinline__ void AddPages(int stage, int num_keys) {
    uint32_t tile[kPages];  // of K; V's is kTileBytes further on
#pragma unroll
    for (int g = 0; g < kPages; ++g) {
      tile[g] = SharedAddress(shared.ring[warp][(stage + g) % kStages][0]);
    }
    const uint32_t k_at = Swizzled(lane % 16, lane / 16);
    const uint32_t v_at = kTileBytes + Swizzled(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    float s[kTiles][kPages][2][4] = {};  // two sums, to halve the chain of dependent products
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int g = 0; g < kPages; ++g) {
        uint32_t a[4];
        LoadMatrices(a, (tile[g] + k_at) ^ ChunkBits(2 * i));
#pragma unroll
        for (int t = 0; t < kTiles; ++t) E::Mma(s[t][g][i % 2], a, q[t][i][0], q[t][i][1]);
      }
    }
    uint32_t probs[kTiles][kPages][2];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      float scores[kPages][4];
#pragma unroll
      for (int g = 0; g < kPages; ++g) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int key = g * kBlock + lane / 4 + (j / 2) * 8;
          scores[g][j] = key < num_keys ? s[t][g][0][j] + s[t][g][1][j] : -INFINITY;
        }
      }
      float alpha[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float top = fmaxf(scores[0][j], scores[0][j + 2]);
        if (kPages == 2) top = fmaxf(top, fmaxf(scores[kPages - 1][j], scores[kPages - 1][j + 2]));
#pragma unroll
        for (int d = 4; d < 32; d *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
        top = fmaxf(top, m[t][j]);
        alpha[j] = Exp2((m[t][j] - top) * p.scale_log2);
        m[t][j] = top;
        l[t][j] *= alpha[j];
#pragma unroll
        for (int g = 0; g < kPages; ++g) {
          scores[g][j] = Exp2((scores[g][j] - top) * p.scale_log2);
          scores[g][j + 2] = Exp2((scores[g][j + 2] - top) * p.scale_log2);
          l[t][j] += scores[g][j] + scores[g][j + 2];
        }
      }
#pragma unroll
      for (int g = 0; g < kPages; ++g) {
        probs[t][g][0] = TransposeMatrix(E::Pack(scores[g][0], scores[g][1]));
        probs[t][g][1] = TransposeMatrix(E::Pack(scores[g][2], scores[g][3]));
      }
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) o[t][i][j] *= alpha[j % 2];
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int g = 0; g < kPages; ++g) {
        uint32_t a[4];
        LoadMatricesTransposed(a, (tile[g] + v_at) ^ ChunkBits(2 * i));
#pragma unroll
        for (int t = 0; t < kTiles; ++t) E::Mma(o[t][i], a, probs[t][g][0], probs[t][g][1]);
      }
    }
  }

  // Puts the warp's sums of one tile into shared memory.
  __device__ __forceinline__ void ShareTile(int t) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float sum = l[t][j];
#pragma unroll
      for (int d = 4; d < 32; d *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
      const int head = 2 * (lane % 4) + j;
      if (lane < 4) {
        shared.m[warp][head] = m[t][j] * p.scale_log2;
        shared.l[warp][head] = sum;
      }
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        shared.o[warp][head][i * 16 + lane / 4] = o[t][i][j];
        shared.o[warp][head][i * 16 + lane / 4 + 8] = o[t][i][j + 2];
      }
    }
  }

  // Adds up the warps' sums of one tile and gives each pair of elements to
  // store(head of the group, element, o, o of the next element, m, l).
  template <typename Store>
  __device__ __forceinline__ void CombineTile(int t, Store store) {
    const int num_heads = min(p.group - t * kHeadsPerTile, kHeadsPerTile);
    for (int i = static_cast<int>(threadIdx.x); i < num_heads * (kHeadDim / 2); i += kThreads) {
      const int head = i / (kHeadDim / 2);
      const int element = i % (kHeadDim / 2) * 2;
      float top = shared.m[0][head];
#pragma unroll
      for (int w = 1; w < kWarps; ++w) top = fmaxf(top, shared.m[w][head]);
      float sum = 0, o0 = 0, o1 = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float weight = Exp2(shared.m[w][head] - top);
        const auto pair = *reinterpret_cast<const float2*>(&shared.o[w][head][element]);
        sum += weight * shared.l[w][head];
        o0 += weight * pair.x;
        o1 += weight * pair.y;
      }
      store(t * kHeadsPerTile + head, element, o0, o1, top, sum);
    }
  }

  // Where the output of an element of a head of the group goes.
  __device__ __forceinline__ Element* OutputOf(int32_t seq, int32_t kv_head, int head,
                                               int element) const {
    return static_cast<Element*>(p.out) + seq * p.out_stride +
           static_cast<int64_t>(kv_head * p.group + head) * kHeadDim + element;
  }
};

}  // namespace mili::kernels::cuda

// Decode attention. A CTA walks through its share of the step's KV (plan.h); each of its four warps
// takes one page of 16 tokens of every block of 64, through a ring of shared memory that only it
// fills and reads, so warps meet only where a sequence and head ends. Keys are the 16 rows of the
// MMA and the query heads of a group its 8 columns: S' = K Q', O' += V' P'. What a share leaves
// unfinished goes to the workspace; the last CTA of a sequence and head puts the parts together.
#pragma once

#include "kernels/cuda/attention/decode_args.cuh"
#include "kernels/cuda/common/cp_async.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/mma.cuh"

namespace mili::kernels::cuda {

inline constexpr int kDecodeWarps = 4;
inline constexpr int kDecodeThreads = kDecodeWarps * 32;
inline constexpr int kHeadsPerTile = 8;

template <typename E, int kHeadDim, int kTiles>
struct DecodeCta {
  using Element = typename E::Type;
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, in a row
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kTileBytes = kPageTokens * kHeadDim * 2;  // K or V of a page
  static constexpr int kStages = kHeadDim == 128 ? 3 : 6;
  static constexpr int kRowFloats =
      kHeadDim + 4;  // of Shared::o; keeps its writes free of conflicts

  struct Shared {
    uint4 ring[kDecodeWarps][kStages][2][kTileBytes / 16];
    float o[kDecodeWarps][kHeadsPerTile][kRowFloats];
    float m[kDecodeWarps][kHeadsPerTile];
    float l[kDecodeWarps][kHeadsPerTile];
    int32_t is_last;
  };

  const DecodeArgs& p;
  Shared& shared;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;

  // The softmax of one warp's keys of the current sequence and head. Lane l holds query heads
  // 8 * tile + 2 * (l % 4) and the next.
  uint32_t q[kTiles][kSteps][2];
  float o[kTiles][kSteps][4];  // rows are elements of the head
  float m[kTiles][2];
  float l[kTiles][2];  // of this lane's keys only

  __device__ __forceinline__ static uint32_t Swizzled(int row, int chunk) {
    return static_cast<uint32_t>(row * kChunks + (chunk ^ (row & 7))) * 16;
  }

  __device__ __forceinline__ int32_t PageOf(const Cursor& at) const {
    const int32_t page = at.block * kDecodeWarps + warp;
    if (page * kPageTokens >= at.len) return -1;
    return __ldg(p.page_table + static_cast<int64_t>(at.seq) * p.page_table_stride + page);
  }

  __device__ __forceinline__ void LoadPage(const Cursor& at, int32_t page, int stage) {
    if (page < 0) return;
    const auto* k = static_cast<const Element*>(p.kv) + page * p.page_stride +
                    at.kv_head * (kPageTokens * kHeadDim);
    const auto* v = k + static_cast<int64_t>(p.num_kv_heads) * (kPageTokens * kHeadDim);
    const int num_rows = at.len - (at.block * kDecodeWarps + warp) * kPageTokens;
    const uint32_t to = SharedAddress(shared.ring[warp][stage][0]);
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      const int chunk = i * 32 + lane;
      const int row = chunk / kChunks;
      CopyAsync16OrZero(to + Swizzled(row, chunk % kChunks), k + chunk * 8, row < num_rows);
    }
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      const int chunk = i * 32 + lane;
      const int row = chunk / kChunks;
      CopyAsync16OrZero(to + kTileBytes + Swizzled(row, chunk % kChunks), v + chunk * 8,
                        row < num_rows);
    }
  }

  __device__ __forceinline__ void Begin(const Cursor& at) {
    const auto* row = static_cast<const Element*>(p.q) + at.seq * p.q_stride +
                      static_cast<int64_t>(at.kv_head) * p.group * kHeadDim;
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

  // Adds the page in `stage`, of which num_keys (1 or more) are of the sequence.
  __device__ __forceinline__ void AddPage(int stage, int num_keys) {
    const uint32_t k_tile = SharedAddress(shared.ring[warp][stage][0]);
    const uint32_t v_tile = k_tile + kTileBytes;
    float s[kTiles][2][4] = {};  // two sums, to halve the chain of dependent products
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      uint32_t a[4];
      LoadMatrices(a, k_tile + Swizzled(lane % 16, 2 * i + lane / 16));
#pragma unroll
      for (int t = 0; t < kTiles; ++t) E::Mma(s[t][i % 2], a, q[t][i][0], q[t][i][1]);
    }
    uint32_t probs[kTiles][2];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      float scores[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = lane / 4 + (j / 2) * 8;
        scores[j] = key < num_keys ? s[t][0][j] + s[t][1][j] : -INFINITY;
      }
      float alpha[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float top = fmaxf(scores[j], scores[j + 2]);
#pragma unroll
        for (int d = 4; d < 32; d *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
        top = fmaxf(top, m[t][j]);
        alpha[j] = Exp2((m[t][j] - top) * p.scale_log2);
        m[t][j] = top;
        scores[j] = Exp2((scores[j] - top) * p.scale_log2);
        scores[j + 2] = Exp2((scores[j + 2] - top) * p.scale_log2);
        l[t][j] = l[t][j] * alpha[j] + scores[j] + scores[j + 2];
      }
      probs[t][0] = TransposeMatrix(E::Pack(scores[0], scores[1]));
      probs[t][1] = TransposeMatrix(E::Pack(scores[2], scores[3]));
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) o[t][i][j] *= alpha[j % 2];
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      uint32_t a[4];
      LoadMatricesTransposed(a,
                             v_tile + Swizzled(lane % 8 + lane / 16 * 8, 2 * i + (lane / 8) % 2));
#pragma unroll
      for (int t = 0; t < kTiles; ++t) E::Mma(o[t][i], a, probs[t][0], probs[t][1]);
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

  // Adds up the four warps' sums of one tile and gives each pair of elements to
  // store(head of the group, element, o, o of the next element, m, l).
  template <typename Store>
  __device__ __forceinline__ void CombineTile(int t, Store store) {
    const int num_heads = min(p.group - t * kHeadsPerTile, kHeadsPerTile);
    for (int i = static_cast<int>(threadIdx.x); i < num_heads * (kHeadDim / 2);
         i += kDecodeThreads) {
      const int head = i / (kHeadDim / 2);
      const int element = i % (kHeadDim / 2) * 2;
      float top = shared.m[0][head];
#pragma unroll
      for (int w = 1; w < kDecodeWarps; ++w) top = fmaxf(top, shared.m[w][head]);
      float sum = 0, o0 = 0, o1 = 0;
#pragma unroll
      for (int w = 0; w < kDecodeWarps; ++w) {
        const float weight = Exp2(shared.m[w][head] - top);
        const auto pair = *reinterpret_cast<const float2*>(&shared.o[w][head][element]);
        sum += weight * shared.l[w][head];
        o0 += weight * pair.x;
        o1 += weight * pair.y;
      }
      store(t * kHeadsPerTile + head, element, o0, o1, top, sum);
    }
  }

  __device__ __forceinline__ void StoreOutput(const Cursor& at, int head, int element, float o0,
                                              float o1, float sum) {
    const float inverse = 1.0f / sum;
    auto* to = static_cast<Element*>(p.out) + at.seq * p.out_stride +
               static_cast<int64_t>(at.kv_head * p.group + head) * kHeadDim + element;
    *reinterpret_cast<uint32_t*>(to) = E::Pack(o0 * inverse, o1 * inverse);
  }

  // Ends the current sequence and head in this share. `flat` is the current block's place in the
  // step's list, `begin` that of the share's first.
  __device__ __forceinline__ void Finish(const Cursor& at, int32_t flat, int32_t begin,
                                         const DecodePlanHeader& plan) {
    const int32_t unit_begin = flat - at.block;
    const bool begins_here = unit_begin >= begin;
    const bool is_whole = begins_here && at.block + 1 == at.num_blocks;
    const int part_floats = PartFloats(p.group, kHeadDim);
    float* part = p.parts + (static_cast<int64_t>(blockIdx.x) * 2 + begins_here) * part_floats;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      __syncthreads();  // the last use of shared.o is over
      ShareTile(t);
      __syncthreads();
      CombineTile(t, [&](int head, int element, float o0, float o1, float top, float sum) {
        if (is_whole) {
          StoreOutput(at, head, element, o0, o1, sum);
          return;
        }
        *reinterpret_cast<float2*>(part + head * kHeadDim + element) = {o0, o1};
        if (element == 0) {
          part[p.group * kHeadDim + head] = top;
          part[p.group * (kHeadDim + 1) + head] = sum;
        }
      });
    }
    if (is_whole) return;

    const int32_t unit_end = unit_begin + at.num_blocks;
    const int32_t first = ShareOf(unit_begin, plan.total_blocks, plan.num_active);
    const int32_t num_parts = ShareOf(unit_end - 1, plan.total_blocks, plan.num_active) - first + 1;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      shared.is_last = atomicAdd(p.counters + first, 1) == num_parts - 1;
      if (shared.is_last) p.counters[first] = 0;
    }
    __syncthreads();
    if (!shared.is_last) return;
    __threadfence();
    Merge(at, first, num_parts);
  }

  // Each warp adds up every fourth part, then the warps meet as in Finish.
  __device__ __forceinline__ void Merge(const Cursor& at, int32_t first, int32_t num_parts) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      if (t > 0) __syncthreads();
      const int num_heads = min(p.group - t * kHeadsPerTile, kHeadsPerTile);
      for (int head = 0; head < num_heads; head += 4) MergeHeads(t, head, first, num_parts);
      __syncthreads();
      CombineTile(t, [&](int head, int element, float o0, float o1, float, float sum) {
        StoreOutput(at, head, element, o0, o1, sum);
      });
    }
  }

  // Adds up this warp's parts of four heads into shared memory, four parts at a time.
  __device__ __forceinline__ void MergeHeads(int t, int first_head, int32_t first,
                                             int32_t num_parts) {
    constexpr int kFloats = kHeadDim / 32;  // of a head, a lane's share
    const int part_floats = PartFloats(p.group, kHeadDim);
    float top[4], sum[4], acc[4][kFloats];
#pragma unroll
    for (int h = 0; h < 4; ++h) {
      top[h] = -INFINITY;
      sum[h] = 0;
#pragma unroll
      for (int j = 0; j < kFloats; ++j) acc[h][j] = 0;
    }
    for (int32_t k0 = warp; k0 < num_parts; k0 += 4 * kDecodeWarps) {
      float part_m[4][4], part_l[4][4], part_o[4][4][kFloats];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int32_t k = k0 + i * kDecodeWarps;
        const float* part =
            p.parts + (static_cast<int64_t>(first + k) * 2 + (k == 0)) * part_floats;
#pragma unroll
        for (int h = 0; h < 4; ++h) {
          const int head = t * kHeadsPerTile + first_head + h;
          const bool is_valid = k < num_parts && head < p.group;
          part_m[i][h] = is_valid ? __ldcg(part + p.group * kHeadDim + head) : -INFINITY;
          part_l[i][h] = is_valid ? __ldcg(part + p.group * (kHeadDim + 1) + head) : 0;
#pragma unroll
          for (int j = 0; j < kFloats; j += 2) {
            const auto* from =
                reinterpret_cast<const float2*>(part + head * kHeadDim + lane * kFloats + j);
            const float2 pair = is_valid ? __ldcg(from) : float2{0, 0};
            part_o[i][h][j] = pair.x;
            part_o[i][h][j + 1] = pair.y;
          }
        }
      }
#pragma unroll
      for (int h = 0; h < 4; ++h) {
        float new_top = top[h];
#pragma unroll
        for (int i = 0; i < 4; ++i) new_top = fmaxf(new_top, part_m[i][h]);
        const float anchor = new_top == -INFINITY ? 0 : new_top;
        const float alpha = Exp2(top[h] - anchor);
        top[h] = new_top;
        sum[h] *= alpha;
#pragma unroll
        for (int j = 0; j < kFloats; ++j) acc[h][j] *= alpha;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float weight = Exp2(part_m[i][h] - anchor);
          sum[h] += weight * part_l[i][h];
#pragma unroll
          for (int j = 0; j < kFloats; ++j) acc[h][j] += weight * part_o[i][h][j];
        }
      }
    }
#pragma unroll
    for (int h = 0; h < 4; ++h) {
      if (lane == 0) {
        shared.m[warp][first_head + h] = top[h];
        shared.l[warp][first_head + h] = sum[h];
      }
#pragma unroll
      for (int j = 0; j < kFloats; ++j) {
        shared.o[warp][first_head + h][lane * kFloats + j] = acc[h][j];
      }
    }
  }

  __device__ __forceinline__ void Run() {
    const DecodePlanHeader plan = *p.plan;
    const DecodeShare share = reinterpret_cast<const DecodeShare*>(p.plan + 1)[blockIdx.x];
    if (share.num_blocks == 0) return;
    Cursor at = {share.seq, share.kv_head, share.block, 0, 0};
    at.EnterSequence(p.context_lens);
    Cursor loading = at;
    int32_t page = PageOf(loading);  // of `loading`, fetched one block ahead of its use
    int32_t num_loaded = 0;
    const auto load_next = [&](int stage) {
      if (num_loaded < share.num_blocks) {
        LoadPage(loading, page, stage);
        if (++num_loaded < share.num_blocks) {
          loading.Advance(p);
          page = PageOf(loading);
        }
      }
      CommitCopies();
    };
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) load_next(i);
    Begin(at);
    const int32_t begin =
        ShareBegin(static_cast<int32_t>(blockIdx.x), plan.total_blocks, plan.num_active);
    int stage = 0;
    for (int32_t i = 0; i < share.num_blocks; ++i) {
      load_next(stage == 0 ? kStages - 1 : stage - 1);
      WaitForCopies<kStages - 1>();
      __syncwarp();
      const int num_keys = at.len - (at.block * kDecodeWarps + warp) * kPageTokens;
      if (num_keys > 0) AddPage(stage, num_keys);
      __syncwarp();
      stage = stage + 1 == kStages ? 0 : stage + 1;
      const bool is_last = i + 1 == share.num_blocks;
      const bool ends = at.block + 1 == at.num_blocks;
      if (is_last || ends) Finish(at, begin + i, begin, plan);
      if (is_last) break;
      at.Advance(p);
      if (ends) Begin(at);
    }
  }
};

template <typename E, int kHeadDim, int kTiles>
__global__ void __launch_bounds__(kDecodeThreads, kTiles == 1 ? kDecodeCtasPerSm : 1)
    DecodeKernel(const __grid_constant__ DecodeArgs p) {
  using Cta = DecodeCta<E, kHeadDim, kTiles>;
  extern __shared__ __align__(16) uint8_t bytes[];
  WaitForProducers();
  Cta cta = {p, *reinterpret_cast<typename Cta::Shared*>(bytes)};
  cta.Run();
}

// One instance a type and head size, each in a source of its own.
template <typename E, int kHeadDim, int kTiles>
cudaError_t LaunchDecode(const DecodeArgs& args, int32_t num_ctas, bool pdl, cudaStream_t stream);

template <typename E, int kHeadDim, int kTiles>
cudaError_t LaunchDecodeHere(const DecodeArgs& args, int32_t num_ctas, bool pdl,
                             cudaStream_t stream) {
  const auto kernel = &DecodeKernel<E, kHeadDim, kTiles>;
  constexpr int kSharedBytes = sizeof(typename DecodeCta<E, kHeadDim, kTiles>::Shared);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error != cudaSuccess) return error;
  return Launch(kernel, dim3(static_cast<unsigned>(num_ctas)), dim3(kDecodeThreads), kSharedBytes,
                pdl, stream, args);
}

}  // namespace mili::kernels::cuda

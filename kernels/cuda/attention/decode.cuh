// Decode attention by the step's plan (plan.h), for any number and lengths of sequences. A CTA
// walks through its share of the KV; each of its four warps takes one page of every block of 64
// tokens. What a share leaves unfinished goes to the workspace; the last CTA of a sequence and head
// puts the parts together.
#pragma once

#include "kernels/cuda/attention/decode_pages.cuh"
#include "kernels/cuda/common/launch.h"

namespace mili::kernels::cuda {

template <typename E, int kHeadDim, int kTiles>
struct DecodeCta : DecodePages<E, kHeadDim, kTiles> {
  using Base = DecodePages<E, kHeadDim, kTiles>;
  using Base::kStages;
  using Base::p;
  using Base::warp;

  int32_t& merges;  // in shared memory: whether this CTA puts the parts of a unit together

  struct Shared : Base::Shared {
    int32_t merges;
  };
  __device__ __forceinline__ DecodeCta(const DecodeArgs& args, Shared& memory)
      : Base{args, memory}, merges(memory.merges) {}

  __device__ __forceinline__ int NumKeys(const Cursor& at) const {
    return at.len - (at.block * kDecodeWarps + warp) * kPageTokens;
  }
  __device__ __forceinline__ int32_t PageOf(const Cursor& at) const {
    if (NumKeys(at) <= 0) return 0;
    return __ldg(p.page_table + static_cast<int64_t>(at.seq) * p.page_table_stride +
                 at.block * kDecodeWarps + warp);
  }

  __device__ __forceinline__ void StorePair(const Cursor& at, int head, int element, float o0,
                                            float o1, float sum) {
    const float inverse = 1.0f / sum;
    *reinterpret_cast<uint32_t*>(this->OutputOf(at.seq, at.kv_head, head, element)) =
        E::Pack(o0 * inverse, o1 * inverse);
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
      this->ShareTile(t);
      __syncthreads();
      this->CombineTile(t, [&](int head, int element, float o0, float o1, float top, float sum) {
        if (is_whole) {
          StorePair(at, head, element, o0, o1, sum);
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
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      merges = atomicAdd(p.counters + first, 1) == num_parts - 1;
      if (merges) p.counters[first] = 0;
      __threadfence();
    }
    __syncthreads();
    if (!merges) return;
    Merge(at, first, num_parts);
  }

  // A thread adds up four elements of a head, eight parts at a time.
  __device__ __forceinline__ void Merge(const Cursor& at, int32_t first, int32_t num_parts) {
    constexpr int kAtOnce = 8;
    const int part_floats = PartFloats(p.group, kHeadDim);
    for (int i = static_cast<int>(threadIdx.x); i < p.group * (kHeadDim / 4); i += kDecodeThreads) {
      const int head = i / (kHeadDim / 4);
      float top = -INFINITY, sum = 0;
      float4 o = {0, 0, 0, 0};
      for (int32_t k0 = 0; k0 < num_parts; k0 += kAtOnce) {
        float part_m[kAtOnce], part_l[kAtOnce];
        float4 part_o[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
          const int32_t k = min(k0 + j, num_parts - 1);
          const float* part =
              p.parts + (static_cast<int64_t>(first + k) * 2 + (k == 0)) * part_floats;
          part_m[j] = k == k0 + j ? __ldcg(part + p.group * kHeadDim + head) : -INFINITY;
          part_l[j] = __ldcg(part + p.group * (kHeadDim + 1) + head);
          part_o[j] = __ldcg(reinterpret_cast<const float4*>(part) + i);
        }
        float new_top = top;
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) new_top = fmaxf(new_top, part_m[j]);
        const float alpha = Exp2(top - new_top);
        top = new_top;
        sum *= alpha;
        o = {o.x * alpha, o.y * alpha, o.z * alpha, o.w * alpha};
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
          const float weight = Exp2(part_m[j] - top);
          sum += weight * part_l[j];
          o = {o.x + weight * part_o[j].x, o.y + weight * part_o[j].y, o.z + weight * part_o[j].z,
               o.w + weight * part_o[j].w};
        }
      }
      const int element = i % (kHeadDim / 4) * 4;
      StorePair(at, head, element, o.x, o.y, sum);
      StorePair(at, head, element + 2, o.z, o.w, sum);
    }
  }

  __device__ __forceinline__ void Run() {
    const DecodePlanHeader plan = *p.plan;
    const DecodeShare share = reinterpret_cast<const DecodeShare*>(p.plan + 1)[blockIdx.x];
    if (share.num_blocks == 0) return;
    Cursor at = {share.seq, share.kv_head, share.block, share.len,
                 (share.len + kDecodeBlock - 1) / kDecodeBlock};
    Cursor loading = at;
    int32_t page = PageOf(loading);  // of `loading`, fetched one block ahead of its use
    int32_t num_loaded = 0;
    const auto load_next = [&](int stage) {
      if (num_loaded < share.num_blocks) {
        this->LoadPage(loading.kv_head, page, NumKeys(loading), stage);
        if (++num_loaded < share.num_blocks) {
          loading.Advance(p);
          page = PageOf(loading);
        }
      }
      CommitCopies();
    };
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) load_next(i);
    this->Begin(at.seq, at.kv_head);
    const int32_t begin =
        ShareBegin(static_cast<int32_t>(blockIdx.x), plan.total_blocks, plan.num_active);
    int stage = 0;
    for (int32_t i = 0; i < share.num_blocks; ++i) {
      load_next(stage == 0 ? kStages - 1 : stage - 1);
      WaitForCopies<kStages - 1>();
      __syncwarp();
      if (NumKeys(at) > 0) this->AddPage(stage, NumKeys(at));
      __syncwarp();
      stage = stage + 1 == kStages ? 0 : stage + 1;
      const bool is_last = i + 1 == share.num_blocks;
      const bool ends = at.block + 1 == at.num_blocks;
      if (is_last || ends) Finish(at, begin + i, begin, plan);
      if (is_last) break;
      at.Advance(p);
      if (ends) this->Begin(at.seq, at.kv_head);
    }
  }
};

template <typename E, int kHeadDim, int kTiles>
__global__ void __launch_bounds__(kDecodeThreads, kTiles == 1 ? kDecodeCtasPerSm : 1)
    DecodeKernel(const __grid_constant__ DecodeArgs p) {
  using Cta = DecodeCta<E, kHeadDim, kTiles>;
  extern __shared__ __align__(16) uint8_t bytes[];
  WaitForProducers();
  LetDependentsStart();
  Cta cta(p, *reinterpret_cast<typename Cta::Shared*>(bytes));
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

// Decode attention by the step's plan (plan.h), for any number and lengths of sequences. A CTA
// walks through its share of the KV; each of its warps takes one page of every block. What a share
// leaves unfinished goes to the workspace as a part. The share in which a sequence and head ends
// puts its parts together; it waits for CTAs before its own only, and those run or have run.
#pragma once

#include "kernels/cuda/attention/decode_pages.cuh"
#include "kernels/cuda/common/launch.h"

namespace mili::kernels::cuda {

template <typename E, int kHeadDim, int kTiles, int kWarps>
struct DecodeCta : DecodePages<E, kHeadDim, kTiles, kWarps> {
  using Base = DecodePages<E, kHeadDim, kTiles, kWarps>;
  using Base::kBlock;
  using Base::kStages;
  using Base::kThreads;
  using Base::p;
  using Base::warp;
  using Place = Cursor<kBlock>;

  // Parts pass from CTA to CTA while both run. They are read as soon as their words are not zero,
  // so a zero is written as its negative.
  __device__ __forceinline__ static void Publish(float* to, float x) {
    asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" ::"l"(to), "f"(NotZero(x)) : "memory");
  }
  __device__ __forceinline__ static float Look(const float* from) {
    float x;
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(x) : "l"(from) : "memory");
    return x;
  }
  __device__ __forceinline__ static float4 LookFour(const float* from) {
    float4 x;
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "l"(from)
                 : "memory");
    return x;
  }
  __device__ __forceinline__ static float NotZero(float x) {
    return __float_as_uint(x) == 0 ? -0.0f : x;
  }
  __device__ __forceinline__ static bool IsThere(float x) { return __float_as_uint(x) != 0; }

  __device__ __forceinline__ int NumKeys(const Place& at) const {
    return at.len - (at.block * kWarps + warp) * kPageTokens;
  }
  __device__ __forceinline__ int32_t PageOf(const Place& at) const {
    if (NumKeys(at) <= 0) return 0;
    return __ldg(p.page_table + static_cast<int64_t>(at.seq) * p.page_table_stride +
                 at.block * kWarps + warp);
  }

  __device__ __forceinline__ void StorePair(const Place& at, int head, int element, float o0,
                                            float o1, float sum) {
    const float inverse = 1.0f / sum;
    *reinterpret_cast<uint32_t*>(this->OutputOf(at.seq, at.kv_head, head, element)) =
        E::Pack(o0 * inverse, o1 * inverse);
  }

  __device__ __forceinline__ float* PartOf(int32_t share, bool begins_there) const {
    return p.parts +
           (static_cast<int64_t>(share) * 2 + begins_there) * PartFloats(p.group, kHeadDim);
  }

  // Ends the current sequence and head in this share. `flat` is the current block's place in the
  // step's list, `begin` that of the share's first.
  __device__ __forceinline__ void Finish(const Place& at, int32_t flat, int32_t begin) {
    const bool begins_here = flat - at.block >= begin;
    const bool is_whole = begins_here && at.block + 1 == at.num_blocks;
    float* part = PartOf(static_cast<int32_t>(blockIdx.x), begins_here);
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
        Publish(part + head * kHeadDim + element, o0);
        Publish(part + head * kHeadDim + element + 1, o1);
        if (element == 0) {
          Publish(part + p.group * kHeadDim + head, top);
          Publish(part + p.group * (kHeadDim + 1) + head, sum);
        }
      });
    }
  }

  // Puts the parts of the shares from `first` to this one together, kAtOnce at once: a thread four
  // elements of a head. A word of a part that is still zero is on its way.
  __device__ __forceinline__ void Merge(const Place& at, int32_t first) {
    constexpr int kAtOnce = 8;
    const int32_t last = static_cast<int32_t>(blockIdx.x);
    for (int i = static_cast<int>(threadIdx.x); i < p.group * (kHeadDim / 4); i += kThreads) {
      const int head = i / (kHeadDim / 4);
      float top = -INFINITY, sum = 0;
      float4 o = {0, 0, 0, 0};
      for (int32_t c0 = first; c0 <= last; c0 += kAtOnce) {
        float part_m[kAtOnce], part_l[kAtOnce];
        float4 part_o[kAtOnce];
        bool is_complete;
        do {
          is_complete = true;
#pragma unroll
          for (int j = 0; j < kAtOnce; ++j) {
            const int32_t c = min(c0 + j, last);
            const float* part = PartOf(c, c == first);
            part_m[j] = Look(part + p.group * kHeadDim + head);
            part_l[j] = Look(part + p.group * (kHeadDim + 1) + head);
            part_o[j] = LookFour(part + i * 4);
          }
#pragma unroll
          for (int j = 0; j < kAtOnce; ++j) {
            is_complete = is_complete && IsThere(part_m[j]) && IsThere(part_l[j]) &&
                          IsThere(part_o[j].x) && IsThere(part_o[j].y) && IsThere(part_o[j].z) &&
                          IsThere(part_o[j].w);
          }
        } while (!is_complete);
        float new_top = top;
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) new_top = fmaxf(new_top, part_m[j]);
        const float alpha = Exp2(top - new_top);
        top = new_top;
        sum *= alpha;
        o = {o.x * alpha, o.y * alpha, o.z * alpha, o.w * alpha};
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
          const float weight = c0 + j <= last ? Exp2(part_m[j] - top) : 0;
          sum += weight * part_l[j];
          o = {o.x + weight * part_o[j].x, o.y + weight * part_o[j].y, o.z + weight * part_o[j].z,
               o.w + weight * part_o[j].w};
        }
      }
      const int element = i % (kHeadDim / 4) * 4;
      StorePair(at, head, element, o.x, o.y, sum);
      StorePair(at, head, element + 2, o.z, o.w, sum);
    }
    __syncthreads();
    const int part_chunks = PartFloats(p.group, kHeadDim) / 4;
    for (int32_t c = first; c <= last; ++c) {
      auto* part = reinterpret_cast<float4*>(PartOf(c, c == first));
      for (int i = static_cast<int>(threadIdx.x); i < part_chunks; i += kThreads) {
        part[i] = {0, 0, 0, 0};
      }
    }
  }

  __device__ __forceinline__ void Run() {
    WalkShare();
    // Who reads the output waits for this launch alone, and may count on those ahead of it.
    if (p.is_beside && blockIdx.x == 0) WaitForProducers();
  }

  __device__ __forceinline__ void WalkShare() {
    const DecodePlanHeader plan = *p.plan;
    const DecodeShare share = reinterpret_cast<const DecodeShare*>(p.plan + 1)[blockIdx.x];
    LetDependentsStart();
    // Nothing to do: makes room. One CTA stays, so that this launch cannot end before those ahead.
    if (share.num_blocks == 0 && blockIdx.x > 0) return;
    Place at = {share.seq, share.kv_head, share.block, share.len,
                (share.len + kBlock - 1) / kBlock};
    // The first pages. All but those with a last token were written long before this launch.
    constexpr int kFirst = Base::kPairs ? kStages : kStages - 1;
    Place loading = at;
    int32_t pages[kFirst], heads[kFirst];
    int num_keys[kFirst];
#pragma unroll
    for (int i = 0; i < kFirst; ++i) {
      const bool is_valid = i < share.num_blocks;
      pages[i] = is_valid ? PageOf(loading) : 0;
      num_keys[i] = is_valid ? NumKeys(loading) : 0;
      heads[i] = loading.kv_head;
      if (i + 1 < share.num_blocks) loading.Advance(p);
    }
#pragma unroll
    for (int i = 0; i < kFirst; ++i) {
      if (num_keys[i] > kPageTokens) this->LoadPage(heads[i], pages[i], num_keys[i], i);
    }
    int32_t page = kFirst < share.num_blocks ? PageOf(loading) : 0;  // of `loading`
    if (!p.is_beside) WaitForProducers();
    if (share.num_blocks == 0) return;
#pragma unroll
    for (int i = 0; i < kFirst; ++i) {
      if (num_keys[i] <= kPageTokens) this->LoadPage(heads[i], pages[i], num_keys[i], i);
      CommitCopies();
    }
    int32_t num_loaded = kFirst;
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
    this->Begin(at.seq, at.kv_head);
    const int32_t begin =
        ShareBegin(static_cast<int32_t>(blockIdx.x), plan.total_blocks, plan.num_active);
    // Whether this share ends what an earlier one began. It waits for the earlier ones last of all:
    // they, too, come to that sequence and head at their end.
    const bool merges = at.block > 0 && at.block + share.num_blocks >= at.num_blocks;
    const Place first_unit = at;
    const auto next = [](int stage) { return stage + 1 == kStages ? 0 : stage + 1; };
    int stage = 0;
    for (int32_t i = 0; i < share.num_blocks; ++i) {
      if (!Base::kPairs) load_next(stage == 0 ? kStages - 1 : stage - 1);
      if (Base::kPairs && i + 1 < share.num_blocks && NumKeys(at) > kBlock) {
        WaitForCopies<kStages - 2>();
        __syncwarp();
        this->template AddPages<2>(stage, NumKeys(at));
        __syncwarp();
        load_next(stage);
        stage = next(stage);
        ++at.block;
        ++i;
      } else {
        WaitForCopies<kStages - 1>();
        __syncwarp();
        if (NumKeys(at) > 0) this->template AddPages<1>(stage, NumKeys(at));
        __syncwarp();
      }
      if (Base::kPairs) load_next(stage);
      stage = next(stage);
      const bool is_last = i + 1 == share.num_blocks;
      const bool ends = at.block + 1 == at.num_blocks;
      if (is_last || ends) Finish(at, begin + i, begin);
      if (is_last) break;
      at.Advance(p);
      if (ends) this->Begin(at.seq, at.kv_head);
    }
    if (!merges) return;
    const int32_t first = ShareOf(begin - first_unit.block, plan.total_blocks, plan.num_active);
    Merge(first_unit, first);
  }
};

template <typename E, int kHeadDim, int kTiles, int kWarps>
__global__ void __launch_bounds__(32 * kWarps, kTiles == 1 ? kDecodeCtasPerSm : 1)
    DecodeKernel(const __grid_constant__ DecodeArgs p) {
  using Cta = DecodeCta<E, kHeadDim, kTiles, kWarps>;
  extern __shared__ __align__(1024) uint8_t bytes[];
  Cta cta = {{p, *reinterpret_cast<typename Cta::Shared*>(bytes)}};
  cta.Run();
}

// One instance a type and head size, each in a source of its own.
template <typename E, int kHeadDim, int kTiles>
cudaError_t LaunchDecode(const DecodeArgs& args, const DecodeGrid& grid, bool pdl,
                         cudaStream_t stream);

template <typename E, int kHeadDim, int kTiles, int kWarps>
cudaError_t LaunchDecodeCtas(const DecodeArgs& args, int32_t num_ctas, bool pdl,
                             cudaStream_t stream) {
  const auto kernel = &DecodeKernel<E, kHeadDim, kTiles, kWarps>;
  constexpr int kSharedBytes = sizeof(typename DecodeCta<E, kHeadDim, kTiles, kWarps>::Shared);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error != cudaSuccess) return error;
  return Launch(kernel, dim3(static_cast<unsigned>(num_ctas)), dim3(32 * kWarps), kSharedBytes, pdl,
                stream, args);
}

template <typename E, int kHeadDim, int kTiles>
cudaError_t LaunchDecodeHere(const DecodeArgs& args, const DecodeGrid& grid, bool pdl,
                             cudaStream_t stream) {
  if (grid.num_warps == kManyDecodeWarps) {
    return LaunchDecodeCtas<E, kHeadDim, kTiles, kManyDecodeWarps>(args, grid.num_ctas, pdl,
                                                                   stream);
  }
  return LaunchDecodeCtas<E, kHeadDim, kTiles, kDecodeWarps>(args, grid.num_ctas, pdl, stream);
}

}  // namespace mili::kernels::cuda

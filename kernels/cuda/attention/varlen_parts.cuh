// Varlen attention over keys that several CTAs share (plan.h): all parts of a tile but the last
// leave their sums in the workspace, the last one adds them to its own in a fixed order. It waits
// for tiles before its own only; those run or have run, since CTAs start and walk in order.
// The 128 threads that hold 64 rows pass their sums on by themselves: each thread's to the same
// one.
#pragma once

#include "kernels/cuda/attention/varlen_args.h"
#include "kernels/cuda/common/wgmma.cuh"

namespace mili::kernels::cuda {

template <int kHeadDim>
struct VarlenParts {
  static constexpr int kThreads = 128;
  static constexpr int kQuads = kHeadDim / 8;  // of a thread's sums

  const VarlenArgs& p;
  const int half;     // of the tile's rows
  const int thread;   // of kThreads
  const int barrier;  // a number for SyncThreads that only these threads use

  // The sums of a slot and head, quad by quad; the row maxima and sums of weights behind them.
  __device__ __forceinline__ float4* Sums(int32_t slot, int32_t kv_head) const {
    const int64_t i = (static_cast<int64_t>(slot) * p.num_kv_heads + kv_head) * 2 + half;
    return static_cast<float4*>(p.parts) + i * ((kQuads + 1) * kThreads) + thread;
  }
  __device__ __forceinline__ int32_t* Flag(int32_t slot, int32_t kv_head) const {
    return p.part_flags + (slot * p.num_kv_heads + kv_head) * 2 + half;
  }

  // `o`: quad i of this thread's sums; of quads, two values are of the row with m[0] and l[0].
  template <typename Quad>
  __device__ __forceinline__ void Leave(int32_t slot, int32_t kv_head, Quad o, const float (&m)[2],
                                        const float (&l)[2]) const {
    float4* to = Sums(slot, kv_head);
#pragma unroll
    for (int i = 0; i < kQuads; ++i) to[i * kThreads] = o(i);
    to[kQuads * kThreads] = {m[0], m[1], l[0], l[1]};
    __threadfence();
    SyncThreads(barrier, kThreads);
    if (thread == 0) {
      asm volatile("st.release.gpu.global.s32 [%0], 1;" ::"l"(Flag(slot, kv_head)) : "memory");
    }
  }

  // Adds what lies in `num_slots` slots from `slot` on, and leaves these free for the next launch.
  // add(i, quad, weights of the old and the added): moves quad i on.
  template <typename Add>
  __device__ __forceinline__ void Gather(int32_t slot, int32_t num_slots, int32_t kv_head,
                                         float (&m)[2], float (&l)[2], Add add) const {
    for (int32_t i = thread; i < num_slots; i += kThreads) {
      int32_t* flag = Flag(slot + i, kv_head);
      int32_t is_there;
      do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(is_there) : "l"(flag) : "memory");
      } while (is_there == 0);
      *flag = 0;
    }
    SyncThreads(barrier, kThreads);
    for (int32_t i = slot; i < slot + num_slots; ++i) {
      const float4* from = Sums(i, kv_head);
      float4 quads[kQuads];
#pragma unroll
      for (int j = 0; j < kQuads; ++j) quads[j] = __ldcg(from + j * kThreads);
      const float4 row = __ldcg(from + kQuads * kThreads);
      const float part_m[2] = {row.x, row.y};
      const float part_l[2] = {row.z, row.w};
      float old_weight[2], weight[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float top = fmaxf(m[r], part_m[r]);
        const float anchor = top == -INFINITY ? 0 : top;
        old_weight[r] = Exp2((m[r] - anchor) * p.scale_log2);
        weight[r] = Exp2((part_m[r] - anchor) * p.scale_log2);
        m[r] = top;
        l[r] = l[r] * old_weight[r] + part_l[r] * weight[r];
      }
#pragma unroll
      for (int j = 0; j < kQuads; ++j) {
        add(j, quads[j], old_weight, weight);
      }
    }
  }
};

}  // namespace mili::kernels::cuda

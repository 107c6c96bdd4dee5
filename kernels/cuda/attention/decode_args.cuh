// What a launch of decode attention passes by value, and a place in its list of KV blocks.
#pragma once

#include "kernels/cuda/attention/paged_attention.h"
#include "kernels/cuda/attention/plan.h"

namespace mili::kernels::cuda {

// What a launch passes by value.
struct DecodeArgs {
  const void* q;
  void* out;
  const void* kv;
  const int32_t* page_table;
  const int32_t* context_lens;
  const DecodePlanHeader* plan;
  float* parts;  // [num_ctas][2][PartFloats], zero between launches
  int64_t q_stride;
  int64_t out_stride;
  int64_t page_stride;
  int32_t page_table_stride;
  int32_t num_kv_heads;
  int32_t group;     // query heads of one KV head
  float scale_log2;  // scale * log2(e)
  bool is_beside;    // see DecodeAttentionParams
};

// A part in the workspace: o [group][head_dim], then m [group] (times scale_log2), then l [group].
__host__ __device__ inline int32_t PartFloats(int32_t group, int32_t head_dim) {
  return (group * (head_dim + 2) + 3) / 4 * 4;
}

// A place in the step's list of blocks.
template <int kBlock>
struct Cursor {
  int32_t seq, kv_head, block;
  int32_t len, num_blocks;  // of seq

  __device__ __forceinline__ void EnterSequence(const int32_t* context_lens) {
    len = context_lens[seq];
    num_blocks = (len + kBlock - 1) / kBlock;
  }
  // Not to be called at the last block of the step.
  __device__ __forceinline__ void Advance(const DecodeArgs& p) {
    if (++block < num_blocks) return;
    block = 0;
    if (++kv_head < p.num_kv_heads) return;
    kv_head = 0;
    do {
      ++seq;
      EnterSequence(p.context_lens);
    } while (len == 0);
  }
};

}  // namespace mili::kernels::cuda

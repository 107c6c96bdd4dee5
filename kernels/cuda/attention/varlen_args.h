// What a launch of varlen attention passes by value. Plain C++.
#pragma once

#include "kernels/cuda/attention/paged_attention.h"
#include "kernels/cuda/attention/plan.h"

namespace mili::kernels::cuda {

struct VarlenArgs {
  const void* q;
  void* out;
  const void* kv;
  const int32_t* page_table;
  const VarlenTile* plan;
  int64_t q_stride;
  int64_t out_stride;
  int64_t page_stride;
  int32_t page_table_stride;
  int32_t num_pages;
  int32_t num_kv_heads;
  int32_t num_tiles;        // of the plan
  int32_t group;            // query heads of one KV head
  int32_t tokens_per_tile;  // TokensPerTile(group)
  float scale_log2;         // scale * log2(e)
};

}  // namespace mili::kernels::cuda

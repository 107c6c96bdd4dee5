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
  // Sums of tiles that are cut into parts, by slot, KV head and half of the rows
  // (varlen_parts.cuh), and whether they are there: zero between launches.
  void* parts;
  int32_t* part_flags;
  int64_t q_stride;
  int64_t out_stride;
  int64_t page_stride;
  int32_t page_table_stride;
  int32_t num_pages;
  int32_t num_kv_heads;
  int32_t num_tiles;  // of the plan
  int32_t group;      // query heads of one KV head
  float scale_log2;   // scale * log2(e)
};

// Of the workspace, ahead of the sums: a flag for each half of the rows, slot and KV head.
inline size_t VarlenFlagBytes(int32_t num_sms) {
  return (size_t{2} * num_sms * sizeof(int32_t) + 255) / 256 * 256;
}

}  // namespace mili::kernels::cuda

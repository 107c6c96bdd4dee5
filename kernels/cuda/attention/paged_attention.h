// Attention over the paged KV cache on the GPU: decode (one query row a sequence) and varlen
// (prompt chunks, or any mix of lengths), with the plans that spread their work over the SMs.
// Launches only enqueue: no allocation, no synchronisation, nothing of the host is read after
// return, so every launch can be captured. All that changes between replays of a graph (lengths,
// pages, plans) lies in device arrays.
//
// out = softmax(q k^T * scale, causal) v for each query head; query head h reads KV head
// h / (num_heads / num_kv_heads). Sums are fp32; probabilities are rounded to `dtype` before the
// product with v.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "common/base/dtype.h"

namespace mili::kernels::cuda {

inline constexpr int32_t kPageTokens = 16;

struct AttentionShape {
  DType dtype = DType::kBF16;  // kBF16 or kF16: of q, KV and out
  int32_t head_dim = 128;      // 64 or 128
  int32_t num_heads = 0;       // a multiple of num_kv_heads
  int32_t num_kv_heads = 0;    // num_heads / num_kv_heads is 1..8 or 16
};

// The KV cache of one layer, as the step's sequences see it.
// Token t of sequence s lies in page p = page_table[s * page_table_stride + t / 16]; its K of head
// h at kv + p * page_stride + (h * 16 + t % 16) * head_dim, its V num_kv_heads * 16 * head_dim
// elements behind. Nothing at or behind a sequence's context_lens is used: neither page table
// entries nor KV; KV there is not read either.
struct PagedKv {
  const void* kv = nullptr;             // 16-aligned
  int64_t page_stride = 0;              // elements between pages, a multiple of 8
  int32_t num_pages = 0;                // pages that kv holds
  const int32_t* page_table = nullptr;  // [num_seqs, page_table_stride]
  int32_t page_table_stride = 0;
  const int32_t* context_lens = nullptr;  // [num_seqs] tokens, those of this step included
};

// How a step of decodes is spread over the GPU.
struct DecodeGrid {
  int32_t num_ctas = 0;
  int32_t num_warps = 4;  // of a CTA: 4 or 8
};

// Decode: sequence s has one query, row s, at position context_lens[s] - 1. Rows of sequences with
// context_lens 0 (padding) are not written.
struct DecodeAttentionParams {
  AttentionShape shape;
  const void* q = nullptr;  // [num_seqs] rows of [num_heads, head_dim], 4-aligned
  int64_t q_stride = 0;     // elements between rows, even
  void* out = nullptr;      // [num_seqs] rows of [num_heads, head_dim], 4-aligned
  int64_t out_stride = 0;   // elements between rows, even
  PagedKv cache;
  float scale = 0;                // of q k^T; usually 1 / sqrt(head_dim)
  const int32_t* plan = nullptr;  // 16-aligned, of PlanDecode with the same grid and lengths
  DecodeGrid grid;                // of DecodeGridOf, the same at every replay
  // DecodeWorkspaceBytes(shape, grid.num_ctas), 16-aligned, zeroed once before its first launch;
  // each launch leaves it fit for the next. Launches that may overlap need one each.
  void* workspace = nullptr;
  // Start before the kernel ahead on the stream has ended (Hopper only). It and those before it,
  // back to the last one launched without pdl, may write q and the KV of each sequence's last
  // token, but nothing else that is read here.
  bool pdl = false;
  // Launched with pdl right behind the VarlenAttention of the same step, of which it takes nothing:
  // runs beside it, on the SMs that max_ctas leaves free there, and ends no sooner.
  bool is_beside = false;
};

// The most CTAs of a grid on a GPU of num_sms.
int32_t DecodeCtas(int32_t num_sms);
// The grid of a step with up to num_seqs sequences. Two CTAs an SM, so that one reads on while the
// other comes to the end of a sequence and head; where there are few of those, one CTA with more
// warps, each of which takes a page at the same time. num_ctas: of DecodeCtas.
DecodeGrid DecodeGridOf(int32_t num_seqs, int32_t num_kv_heads, int32_t num_ctas);
size_t DecodeWorkspaceBytes(const AttentionShape& shape, int32_t num_ctas);

// Host side of decode, once a step, before the lengths are used: cuts all KV of the step into
// at most num_ctas shares of equal size, whatever the lengths are. Every layer uses the same plan.
// context_lens: host, [num_seqs]. plan: host, DecodePlanInts(grid.num_ctas) ints, all written.
size_t DecodePlanInts(int32_t num_ctas);
void PlanDecode(const int32_t* context_lens, int32_t num_seqs, int32_t num_kv_heads,
                const DecodeGrid& grid, int32_t* plan);

cudaError_t DecodeAttention(const DecodeAttentionParams& params, cudaStream_t stream);

// Varlen: sequence s has the queries of rows cu_seqlens[s] (PlanVarlen) to cu_seqlens[s + 1] - 1;
// the last one is at position context_lens[s] - 1, and each sees the positions up to its own. The
// KV of the step's own tokens is in the cache already. A sequence without rows is padding. Fit for
// prompts and chunks behind a context of any length; single rows are better off in DecodeAttention.
struct VarlenAttentionParams {
  AttentionShape shape;
  const void* q = nullptr;  // [num_tokens] rows of [num_heads, head_dim], 16-aligned
  int64_t q_stride = 0;     // elements between rows, a multiple of 8
  void* out = nullptr;      // [num_tokens] rows of [num_heads, head_dim], 16-aligned
  int64_t out_stride = 0;   // elements between rows, a multiple of 8
  PagedKv cache;
  float scale = 0;
  const int32_t* plan = nullptr;  // 16-aligned, of PlanVarlen with the same lengths
  int32_t num_tiles = 0;          // grid: VarlenTiles of the largest step of this graph, or the
                                  // number that PlanVarlen returned
  int32_t num_sms = 0;            // as for PlanVarlen
  // VarlenWorkspaceBytes(shape, num_sms), 16-aligned, zeroed once before its first launch; each
  // launch leaves it fit for the next. Launches that may overlap need one each. Null for plans
  // without parts, whose kernel is 1 to 3 % faster.
  void* workspace = nullptr;
  // CTAs at most, each of which fills an SM; 0: one an SM. For the Hopper path.
  int32_t max_ctas = 0;
  bool pdl = false;
  // Take the mma.sync path even on Hopper.
  bool is_portable = false;
};

// Upper bound of the tiles of a step, and the ints of a plan that holds so many. num_sms: of the
// GPU; 0 for a plan that cuts no keys and needs no workspace.
int32_t VarlenTiles(const AttentionShape& shape, int32_t max_tokens, int32_t max_seqs,
                    int32_t num_sms = 0);
size_t VarlenPlanInts(int32_t num_tiles);
size_t VarlenWorkspaceBytes(const AttentionShape& shape, int32_t num_sms);

struct VarlenPlanUse {
  int32_t num_tiles = 0;   // in use
  bool has_parts = false;  // whether keys were cut
};

// Host side of varlen, once a step: tiles of queries, those with the most keys first. Where tiles
// are few, the keys of long ones are cut into parts for several SMs. cu_seqlens and context_lens:
// host. plan: host, VarlenPlanInts(num_tiles) ints, all written (surplus tiles are marked as
// empty).
VarlenPlanUse PlanVarlen(const AttentionShape& shape, const int32_t* cu_seqlens,
                         const int32_t* context_lens, int32_t num_seqs, int32_t num_tiles,
                         int32_t* plan, int32_t num_sms = 0);

cudaError_t VarlenAttention(const VarlenAttentionParams& params, cudaStream_t stream);

// Host side of a step with both kinds, once a step: on how many of the GPU's SMs prompts should run
// while decodes run on the others, so that both take about as long; half of them or more, and not
// all. Prompts keep the tensor cores busy and decodes the memory, so that they hardly slow each
// other down. The first num_decodes sequences have one row each, the num_prompts others any number.
// cu_seqlens and context_lens: host.
int32_t SmsOfPrompts(const AttentionShape& shape, const int32_t* cu_seqlens,
                     const int32_t* context_lens, int32_t num_decodes, int32_t num_prompts,
                     int32_t num_sms);

}  // namespace mili::kernels::cuda

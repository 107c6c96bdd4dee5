// What happens between the fused QKV matrix and attention: bias, QK-norm, rotary embedding, and K
// and V written to their pages. Graph-capturable: no allocation, no synchronisation; all arrays are
// device memory, read when the kernel runs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/base/dtype.h"

namespace mili::kernels::cuda {

// The KV that decode attention behind this kernel reads first. It is brought into the L2 while the
// product ahead of both still runs (from compute capability 9.0 on).
struct KvAhead {
  const int32_t* plan = nullptr;        // of PlanDecode; null: there is nothing to bring
  int32_t num_warps = 0;                // of the plan's grid
  const int32_t* page_table = nullptr;  // [num_seqs, page_table_stride], as PagedKv's
  int32_t page_table_stride = 0;
};

// For each token: bias is added; q and k heads are normed (RMS over the head, if their weight is
// set) and rotated at the token's position; k and v go to KV slot slot_map[t]. q, rotated, stays in
// place in qkv. All in fp32 with one rounding at the end.
// Half-split RoPE: with c, s of pair i at the position, (a, b) = (v[i], v[i + D/2]) becomes
// (a c - b s, b c + a s).
//
// Element (page, K or V, kv head, token in page, d) of the layer's pages is at
// page * page_stride + (((is_v * num_kv_heads + head) * 16 + token) * head_dim + d.
struct QkvPrepareParams {
  DType dtype = DType::kBF16;    // of qkv, bias, norms and pages: kBF16 or kF16
  void* qkv = nullptr;           // [num_tokens, (num_heads + 2 num_kv_heads) * head_dim]
  int64_t qkv_stride = 0;        // in elements, a multiple of 8
  const void* bias = nullptr;    // [(num_heads + 2 num_kv_heads) * head_dim] or null
  const void* q_norm = nullptr;  // [head_dim] or null
  const void* k_norm = nullptr;  // [head_dim] or null
  float eps = 1e-6f;
  const float* rope_cos = nullptr;     // [max positions, head_dim / 2], 16-aligned
  const float* rope_sin = nullptr;     // as rope_cos
  const int32_t* positions = nullptr;  // [num_tokens], each a row of rope_cos
  // [num_tokens]: page * 16 + token in page; negative: the token is padding and left alone.
  const int32_t* slot_map = nullptr;
  int32_t num_tokens = 0;  // at most 65000
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;     // 16, 32, 64, 128 or 256
  void* pages = nullptr;    // of this layer, 16-aligned
  int64_t page_stride = 0;  // in elements, a multiple of 8
  bool keep_kv = false;     // K and V as written to the pages also replace those in qkv
  // Written, as all KV but this step's, before the last kernel on the stream that was launched
  // without pdl has ended.
  KvAhead ahead;
  bool pdl = false;  // see kernels/cuda/common/launch.h
};

// cudaErrorInvalidValue for a shape or dtype not allowed above.
cudaError_t QkvPrepare(const QkvPrepareParams& params, cudaStream_t stream);

}  // namespace mili::kernels::cuda

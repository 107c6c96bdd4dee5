// All layers of a step of few sequences with one token each, in one kernel. Blocks stay for the
// whole step and stream their share of all weights without a pause; from layer to layer they
// exchange rows through the L2. Only enqueues: no allocation, no synchronisation, nothing of the
// host is read after return; lengths, pages and slots lie in device arrays, so a captured launch
// serves any step.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "common/base/dtype.h"

namespace mili::kernels::cuda {

inline constexpr int32_t kMaxDecodeLayers = 48;
inline constexpr int32_t kMaxDecodeLayersRows = 8;

struct DecodeLayersShape {
  DType dtype = DType::kBF16;  // of weights, rows and pages
  int32_t num_layers = 0;
  int32_t hidden_size = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t intermediate_size = 0;
};

// Whether there is a kernel for the shape: that of Qwen3-0.6B in bf16, with norms of q and k and no
// bias, on a device that can hold all blocks at once (compute capability 9.0, 128 SMs or more).
bool HasDecodeLayers(const DecodeLayersShape& shape, int32_t num_sms, int32_t compute_capability);

// The weights of a layer, row-major and 16-aligned, and its pages.
struct DecodeLayer {
  const void* input_norm = nullptr;           // [hidden]
  const void* qkv = nullptr;                  // [q_size + 2 kv_size, hidden]
  const void* q_norm = nullptr;               // [head_dim]
  const void* k_norm = nullptr;               // [head_dim]
  const void* o = nullptr;                    // [hidden, q_size]
  const void* post_attention_norm = nullptr;  // [hidden]
  const void* gate_up = nullptr;              // [2 intermediate, hidden], rows in turns of 8
  const void* down = nullptr;                 // [hidden, intermediate]
  void* pages = nullptr;                      // as PagedKv::kv, see kernels/cuda/attention
};

// Row r is the token of sequence r, the last of its context_lens[r]; 0 is padding: of such a row
// nothing is written but the row itself, which then holds anything.
struct DecodeLayersParams {
  DecodeLayersShape shape;
  const DecodeLayer* layers = nullptr;  // [num_layers], on the host
  int32_t num_rows = 0;                 // 1, 2, 4 or 8
  float eps = 1e-6f;                    // of all norms
  float scale = 0;                      // of q k^T
  void* residual = nullptr;             // [num_rows, hidden], in and out
  const float* rope_cos = nullptr;      // [max positions, head_dim / 2], 16-aligned
  const float* rope_sin = nullptr;      // as rope_cos
  const int32_t* positions = nullptr;   // [num_rows], each a row of rope_cos
  const int32_t* slot_map = nullptr;    // [num_rows] page * 16 + token in page; -1: not written
  const int32_t* page_table = nullptr;  // [num_rows, page_table_stride]
  int32_t page_table_stride = 0;
  const int32_t* context_lens = nullptr;  // [num_rows]
  int64_t page_stride = 0;                // elements between pages, a multiple of 8
  // DecodeLayersWorkspaceBytes(), 16-aligned, zeroed once before the first launch. Launches that
  // may overlap need one each.
  void* workspace = nullptr;
  // See kernels/cuda/common/launch.h. The kernels ahead may write the residual and the KV of tokens
  // before the last, but neither weights nor the step's arrays.
  bool pdl = false;
};

size_t DecodeLayersWorkspaceBytes();

// cudaErrorInvalidValue for what is not allowed above.
cudaError_t DecodeLayers(const DecodeLayersParams& params, cudaStream_t stream);

}  // namespace mili::kernels::cuda

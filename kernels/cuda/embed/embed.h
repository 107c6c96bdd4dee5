// Embedding lookup, with the first layer's RMSNorm on demand. Graph-capturable: no allocation, no
// synchronisation; all arrays are device memory, read when the kernel runs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/base/dtype.h"
#include "kernels/cuda/common/fp8.h"

namespace mili::kernels::cuda {

// out[t] = table[id], where id is token_ids[t], or last_tokens[feed_slots[t]] if feed_slots is set
// and feed_slots[t] >= 0. An id outside the table gives a row of zeros.
// With norm_weight also normed[t] = out[t] / rms(out[t]) * norm_weight (see AddRmsNorm).
struct EmbedParams {
  DType dtype = DType::kBF16;            // of table, out, norm_weight and normed: kBF16 or kF16
  const void* table = nullptr;           // [vocab_size, hidden_size], 16-aligned
  const int32_t* token_ids = nullptr;    // [num_tokens]
  const int32_t* feed_slots = nullptr;   // [num_tokens], slot or -1; or null
  const int32_t* last_tokens = nullptr;  // [num_slots]; null if feed_slots is
  int32_t num_tokens = 0;
  int32_t vocab_size = 0;
  int32_t hidden_size = 0;            // a multiple of 8, at most 16384
  void* out = nullptr;                // [num_tokens, hidden_size], contiguous, 16-aligned
  const void* norm_weight = nullptr;  // [hidden_size], 16-aligned; or null
  float eps = 1e-6f;
  void* normed = nullptr;  // as out; may be null without norm_weight or with fp8
  Fp8Rows fp8;             // of the normed rows
  bool pdl = false;        // see kernels/cuda/common/launch.h
};

// cudaErrorInvalidValue for a shape or dtype not allowed above.
cudaError_t Embed(const EmbedParams& params, cudaStream_t stream);

}  // namespace mili::kernels::cuda

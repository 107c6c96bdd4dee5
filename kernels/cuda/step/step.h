// The small change of a step on the device: which token a row feeds, what a slot sampled, which
// rows reach the head. Graph-capturable: no allocation, no synchronisation; arrays are device
// memory and are read when the kernel runs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/base/dtype.h"

namespace mili::kernels::cuda {

// token_ids[t] = last_tokens[fed_slots[t]] where fed_slots[t] >= 0; other tokens stay.
struct FeedTokensParams {
  int32_t* token_ids = nullptr;          // [num_tokens]
  const int32_t* fed_slots = nullptr;    // [num_tokens], slot or -1
  const int32_t* last_tokens = nullptr;  // [num_slots]
  int32_t num_tokens = 0;
};
cudaError_t FeedTokens(const FeedTokensParams& params, cudaStream_t stream);

// last_tokens[slots[i]] = sampled[i] where slots[i] >= 0 and sampled[i] >= 0.
struct StoreTokensParams {
  int32_t* last_tokens = nullptr;    // [num_slots]
  const int32_t* slots = nullptr;    // [num_rows], slot or -1; no slot twice
  const int32_t* sampled = nullptr;  // [num_rows], token id; negative: the row failed
  int32_t num_rows = 0;
};
cudaError_t StoreTokens(const StoreTokensParams& params, cudaStream_t stream);

// out[i] = in[row_idxs[i]], zeros where row_idxs[i] < 0. Rows are contiguous.
struct GatherRowsParams {
  const void* in = nullptr;           // [*, row_bytes], 16-aligned
  const int32_t* row_idxs = nullptr;  // [num_rows]
  void* out = nullptr;                // [num_rows, row_bytes], 16-aligned
  int32_t num_rows = 0;
  int32_t row_bytes = 0;  // a multiple of 16
};
cudaError_t GatherRows(const GatherRowsParams& params, cudaStream_t stream);

}  // namespace mili::kernels::cuda

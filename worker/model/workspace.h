// Workspace: every activation of the forward pass, in one piece of memory of the planned size.
// Written on the executor thread only.
#pragma once

#include <cstdint>

#include <absl/status/statusor.h>

#include "common/core/memory_plan.h"
#include "common/core/model_config.h"
#include "worker/device/memory.h"
#include "worker/ops/ops.h"

namespace mili::worker {

struct Workspace {
  // T is max_num_batched_tokens, R the head tile's rows.
  float* residual = nullptr;  // [T, hidden]
  float* normed = nullptr;    // [T, hidden]
  float* delta = nullptr;     // [T, hidden] what the last block adds to the residual
  // The attention half and the MLP half of a layer never live at the same time.
  float* q = nullptr;          // [T, q_size]
  float* k = nullptr;          // [T, kv_size]
  float* v = nullptr;          // [T, kv_size]
  float* attention = nullptr;  // [T, q_size]
  float* gate = nullptr;       // [T, intermediate], overlaps q, k, v, attention
  float* up = nullptr;         // [T, intermediate], overlaps too
  float* rope_cos = nullptr;   // [T, head_dim / 2] of each token's position
  float* rope_sin = nullptr;
  uint32_t* row_numbers = nullptr;  // [T] 0, 1, 2, …: the row of rope_cos that a token reads
  std::byte* linear = nullptr;      // the kernels' own
  float* tile_residual = nullptr;   // [R, hidden]
  float* tile_delta = nullptr;      // [R, hidden]
  float* tile_normed = nullptr;     // [R, hidden]
  float* logits = nullptr;          // [R, vocab]
  std::byte* sampling = nullptr;    // [threads, sampling_stride_bytes]
  uint64_t sampling_stride_bytes = 0;
  uint32_t tile_rows = 0;  // R

  DeviceMemory memory;

  // INTERNAL if the kernels need more than the plan set aside for them.
  static absl::StatusOr<Workspace> Allocate(const ModelConfig& config, const MemoryPlan& plan,
                                            const Compute& compute);
};

}  // namespace mili::worker

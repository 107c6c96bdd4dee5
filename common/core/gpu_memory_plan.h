// The memory plan of a worker on a GPU: weights, KV, workspace, graphs and a reserve, all of it
// taken before ready. Pure; any thread.
#pragma once

#include <cstdint>

#include <absl/status/statusor.h>

#include "common/core/memory_plan.h"

namespace mili {

struct GpuMemoryLimits {
  uint32_t max_model_len = 0;  // 0: the model's own, cut to what the pages can hold
  uint32_t max_num_seqs = 256;
  uint32_t max_num_batched_tokens = 0;  // 0: UsualGpuBatchedTokens
  // 0: all that utilization leaves, at most what max_num_seqs full contexts need.
  uint64_t kv_cache_memory_bytes = 0;
  // Share of total_bytes that may be in use on the GPU, by whomever.
  double utilization = 0.9;
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // before loading
};

// The GPU's page is fixed: its kernels know it.
inline constexpr uint32_t kGpuPageSizeTokens = 16;
// Per slot, on the device; a request with more of either fails alone.
inline constexpr uint32_t kMaxSlotBiases = 2048;
inline constexpr uint32_t kMaxSlotBanned = 2048;
// Likeliest tokens that a step of captured kernels can report; a step that wants more runs eagerly.
inline constexpr uint32_t kGraphTopLogprobs = 20;
// Prompts that a captured step takes; beside decodes all of them have a row, used or not.
inline constexpr uint32_t kMaxGraphPrompts = 8;
// Steps that may be captured, at most: decodes in 1, 2, 4 and multiples of 8 sequences, short
// prompts alone and beside 8, 16 and multiples of 32 decodes.
uint32_t MaxGpuGraphs(uint32_t max_num_seqs);
// Likeliest tokens that all rows of a step can report together.
inline constexpr uint64_t kMaxStepTopLogprobs = 1u << 20;

// As many prompt tokens as one step can compute without holding up the sequences that decode beside
// them: 2048 to 8192, the more the smaller the model.
uint32_t UsualGpuBatchedTokens(const ModelConfig& config);

// What the plan sets aside for the kernels' own workspaces. A kernel that needs more is refused at
// start.
inline constexpr uint64_t kGpuLinearWorkspaceBytes = 32ull << 20;
inline constexpr uint64_t kGpuAttentionWorkspaceBytes = 64ull << 20;
uint64_t GpuSampleWorkspaceBound(uint64_t num_rows, uint64_t vocab_size);

// RESOURCE_EXHAUSTED, saying by how much and which flag would fit, if weights, workspace, graphs,
// reserve and the KV of one full context exceed what may be used; INVALID_ARGUMENT for limits that
// contradict each other. `dtype` is that of activations, weights and KV: kBF16 or kF16.
absl::StatusOr<MemoryPlan> PlanGpuMemory(const ModelConfig& config, uint64_t weights_bytes,
                                         DType dtype, const GpuMemoryLimits& limits);

}  // namespace mili

// MemoryPlan: every byte a worker will hold, computed before anything is loaded, the same for the
// worker and for `mili inspect`. The worker allocates what it says and nothing after ready.
#pragma once

#include <cstdint>
#include <string>

#include <absl/status/statusor.h>

#include "common/base/dtype.h"
#include "common/core/model_config.h"

namespace mili {

// Pages of KV: [num_layers][num_pages][K, V][num_kv_heads][page_size_tokens][head_dim].
struct KvSpec {
  uint32_t num_layers = 0;
  uint32_t num_kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t page_size_tokens = 16;
  DType dtype = DType::kBF16;  // kF32 or kBF16; on a GPU kBF16 or kF16

  uint64_t bytes_per_token() const {
    return 2ull * num_layers * num_kv_heads * head_dim * TraitsOf(dtype).block_bytes;
  }
  uint64_t bytes_per_page() const { return bytes_per_token() * page_size_tokens; }
};

struct MemoryLimits {
  uint32_t max_model_len = 0;  // 0: the model's own, cut to what the pages can hold
  uint32_t max_num_seqs = 32;
  uint32_t max_num_batched_tokens = 512;
  uint32_t page_size_tokens = 16;
  // Threads that compute; each samples in a workspace of its own.
  uint32_t num_threads = 1;
  // 0: a quarter of available_bytes, at most what max_num_seqs full contexts need.
  uint64_t kv_cache_memory_bytes = 0;
  // Free memory of the device or of the cgroup, before loading; 0: not known, nothing is refused.
  uint64_t available_bytes = 0;
};

// The program itself: code and libraries that are touched, threads, gRPC's buffers. Measured at 12
// to 17 MiB between start and a full KV cache.
inline constexpr uint64_t kProcessBytes = 16ull << 20;

struct MemoryPlan {
  uint64_t weights_bytes = 0;
  KvSpec kv;
  uint32_t num_pages = 0;
  uint64_t kv_bytes = 0;
  uint64_t workspace_bytes = 0;
  uint64_t process_bytes = kProcessBytes;  // 0 for a GPU, whose memory holds no program
  uint64_t graphs_bytes = 0;               // captured steps; 0 on the CPU
  uint64_t reserve_bytes = 0;              // of a GPU: what the driver takes after start
  uint32_t max_model_len = 0;
  uint32_t max_num_seqs = 0;
  uint32_t max_num_batched_tokens = 0;

  uint64_t total_bytes() const {
    return weights_bytes + kv_bytes + workspace_bytes + process_bytes + graphs_bytes +
           reserve_bytes;
  }
  uint64_t num_kv_tokens() const { return uint64_t{num_pages} * kv.page_size_tokens; }
};

// Rows of logits that exist at once: the head is computed over tiles of this many rows.
inline constexpr uint32_t kHeadTileRows = 32;
// Steps whose input is staged at once: the one that runs and those enqueued behind it.
inline constexpr uint32_t kNumStepBatches = 4;

// What the plan sets aside for a kernel's own workspace. A table of kernels that needs more is
// refused at start.
uint64_t LinearWorkspaceBound(uint64_t num_tokens, uint64_t in_features);
uint64_t SampleWorkspaceBound(uint64_t vocab_size);

// RESOURCE_EXHAUSTED, saying by how much and which flag would fit, if weights, workspace and the KV
// of one full context exceed available_bytes; INVALID_ARGUMENT for limits that contradict each
// other.
absl::StatusOr<MemoryPlan> PlanMemory(const ModelConfig& config, uint64_t weights_bytes,
                                      DType kv_dtype, const MemoryLimits& limits);

// The plan as a block of lines for people: each part, tokens that fit, concurrency at 4k and 32k.
std::string Describe(const MemoryPlan& plan);

}  // namespace mili

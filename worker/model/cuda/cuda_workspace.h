// CudaWorkspace: everything on the GPU beside weights and KV: activations, the arrays of the step
// at hand, what slots remember, results. One piece of memory of the planned size, at addresses that
// captured graphs keep.
#pragma once

#include <cstdint>

#include <absl/status/statusor.h>

#include "common/core/gpu_memory_plan.h"
#include "common/core/model_config.h"
#include "worker/device/cuda/cuda_memory.h"
#include "worker/ops/cuda/cuda_ops.h"

namespace mili::worker {

// T is max_num_batched_tokens, S max_num_seqs, R = S + kMaxGraphPrompts, P pages of the longest
// context. Activations have the weights' type.
struct CudaWorkspace {
  void* residual = nullptr;  // [T, hidden]
  void* normed = nullptr;    // [T, hidden]
  // The attention half and the MLP half of a layer never live at the same time.
  void* qkv = nullptr;         // [T, q_size + 2 kv_size]
  void* attention = nullptr;   // [T, q_size]
  void* gate_up = nullptr;     // [T, 2 intermediate], overlaps qkv and attention
  void* activation = nullptr;  // [T, intermediate], overlaps too
  // Rows of e4m3 that a product with fp8 weights reads, each time those of the op before it.
  uint8_t* fp8_rows = nullptr;  // [T, max(hidden, q_size, intermediate)]
  float* fp8_scales = nullptr;  // [T]
  void* head_normed = nullptr;  // [S, hidden]
  float* logits = nullptr;      // [S, vocab]
  float* rope_cos = nullptr;    // [max_model_len, head_dim / 2]
  float* rope_sin = nullptr;

  // The step at hand, laid out by LayOutStep.
  int32_t* token_ids = nullptr;       // [T]
  int32_t* positions = nullptr;       // [T]
  int32_t* slot_map = nullptr;        // [T]
  int32_t* feed_slots = nullptr;      // [T]
  int32_t* cu_seqlens = nullptr;      // [R + 1]
  int32_t* context_lens = nullptr;    // [R]
  int32_t* page_table = nullptr;      // [R, P]
  int32_t* head_rows = nullptr;       // [S] tokens whose logits are sampled
  int32_t* head_slots = nullptr;      // [S]
  int32_t* head_positions = nullptr;  // [S]
  int32_t* decode_plan = nullptr;
  int32_t* varlen_plan = nullptr;
  int32_t* score_rows = nullptr;     // [T] tokens whose successors are scored
  int32_t* score_targets = nullptr;  // [T]
  int32_t* score_num_top = nullptr;  // [T]

  // What slots remember.
  gpu::k::SlotSampling* slots = nullptr;  // [S]
  int32_t* last_tokens = nullptr;         // [S]
  uint16_t* counts = nullptr;             // [S, counts_stride]
  gpu::k::SlotBias* biases = nullptr;     // [S, kMaxSlotBiases]
  int32_t* banned = nullptr;              // [S, kMaxSlotBanned]
  int32_t* count_ids = nullptr;           // [max_model_len] on their way into counts
  uint16_t* count_values = nullptr;       // [max_model_len]

  gpu::k::SampledRow** sampled_at = nullptr;  // [1] where the step's go: [S], pinned
  gpu::k::SampledRow* scored = nullptr;       // [T]
  gpu::k::SampledLogprob* top = nullptr;      // [kMaxStepTopLogprobs]
  void* attention_workspace = nullptr;        // of decode
  void* varlen_workspace = nullptr;
  void* decode_layers_workspace = nullptr;
  void* sample_workspace = nullptr;
  uint64_t* head_best = nullptr;             // of kMaxHeadRows rows, see gpu::k::HeadParams
  std::byte* staging[kNumStepBatches] = {};  // a packed step each

  int64_t counts_stride = 0;
  int32_t page_table_stride = 0;  // P
  int32_t num_sms = 0;
  int32_t num_decode_ctas = 0;
  // Whether the GPU can do attention of prompts and that of decodes side by side.
  bool has_side_by_side = false;
  int32_t max_varlen_tiles = 0;
  uint64_t staging_bytes = 0;

  CudaMemory memory;

  // Of attention of decodes, on the SMs that num_varlen_sms leaves.
  gpu::k::DecodeGrid DecodeGridFor(int32_t num_decode, int32_t num_kv_heads,
                                   int32_t num_varlen_sms) const {
    const bool has_all = num_varlen_sms == 0;
    return gpu::k::DecodeGridOf(
        num_decode, num_kv_heads,
        has_all ? num_decode_ctas : gpu::k::DecodeCtas(num_sms - num_varlen_sms));
  }

  // INTERNAL if the kernels need more than the plan set aside for them.
  static absl::StatusOr<CudaWorkspace> Allocate(const ModelConfig& config, const MemoryPlan& plan,
                                                int num_sms);
};

gpu::k::AttentionShape AttentionShapeOf(const ModelConfig& config, DType dtype);

// Words of a packed step at most.
uint64_t StagingWords(const MemoryPlan& plan, const CudaWorkspace& workspace);

}  // namespace mili::worker

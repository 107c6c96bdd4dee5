#include "common/core/gpu_memory_plan.h"

#include <algorithm>
#include <limits>
#include <string>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/core/plan_limits.h"

namespace mili {
namespace {

constexpr uint32_t kMaxBatchedTokens = 1u << 17;
// A slot of the KV cache is an int32 on the device.
constexpr uint64_t kMaxPages = std::numeric_limits<int32_t>::max() / kGpuPageSizeTokens;
// A captured step of a layer, all its kernels: 29 KiB were measured.
constexpr uint64_t kGraphBytesALayer = 40ull << 10;
constexpr uint64_t kReserveBytes = 256ull << 20;
// What is taken above that is not this process's context alone.
constexpr uint64_t kContextBytes = 1ull << 30;

absl::Status CheckLimits(const ModelConfig& config, const GpuMemoryLimits& limits) {
  MILI_RETURN_IF_ERROR(CheckBatchLimits(
      config, {limits.max_model_len, limits.max_num_seqs, limits.max_num_batched_tokens},
      kMaxBatchedTokens));
  if (!(limits.utilization > 0 && limits.utilization <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("gpu-memory-utilization is ", limits.utilization, "; expected above 0, to 1"));
  }
  return absl::OkStatus();
}

// Activations, logits, step arrays and slots on the device. Mirrors worker/model/cuda.
uint64_t WorkspaceBytes(const ModelConfig& config, const GpuMemoryLimits& limits,
                        uint64_t max_model_len) {
  const uint64_t tokens = limits.max_num_batched_tokens;
  const uint64_t seqs = limits.max_num_seqs;
  const uint64_t vocab = config.vocab_size;
  const uint64_t pages_per_seq = DivideUp(max_model_len, kGpuPageSizeTokens);
  const uint64_t attention = 2ull * config.q_size() + 2ull * config.kv_size();
  const uint64_t mlp = 3ull * config.intermediate_size;

  const uint64_t activations = tokens * 2 * (2ull * config.hidden_size + std::max(attention, mlp));
  const uint64_t fp8 =
      tokens * (4 + std::max({config.hidden_size, config.q_size(), config.intermediate_size}));
  const uint64_t head = seqs * (2ull * config.hidden_size + 4 * vocab);
  const uint64_t rope = max_model_len * 4 * config.head_dim;
  const uint64_t step =
      tokens * 64 + (seqs + kMaxGraphPrompts) * (4 * pages_per_seq + 256) + (4ull << 20);
  const uint64_t slots =
      seqs * (256 + 2 * (vocab + 8) + 8 * kMaxSlotBiases + 4 * kMaxSlotBanned) + 6 * max_model_len;
  const uint64_t results = (tokens + seqs) * 16 + kMaxStepTopLogprobs * 8;
  return activations + fp8 + head + rope + (1 + kNumStepBatches) * step + slots + results +
         kGpuLinearWorkspaceBytes + kGpuAttentionWorkspaceBytes +
         GpuSampleWorkspaceBound(seqs, vocab) + (1ull << 20);
}

std::string Remedy(bool is_given, uint64_t left_bytes, uint64_t page_bytes, bool is_shared) {
  const uint64_t tokens = left_bytes / page_bytes * kGpuPageSizeTokens;
  if (tokens == 0) {
    return absl::StrCat("; ", is_shared ? "other programs must leave the GPU, or " : "",
                        "a smaller model, a larger --gpu-memory-utilization or a larger GPU is "
                        "needed");
  }
  return is_given ? absl::StrCat("; --kv-cache-memory-bytes ", left_bytes, " would fit")
                  : absl::StrCat("; --max-model-len ", tokens, " would fit");
}

}  // namespace

uint64_t GpuSampleWorkspaceBound(uint64_t num_rows, uint64_t vocab_size) {
  return num_rows * (8 * vocab_size + (64ull << 10)) + (1ull << 20);
}

uint32_t MaxGpuGraphs(uint32_t max_num_seqs) {
  constexpr uint32_t kPromptSizes = 6;
  const uint32_t num_decode = 3 + (max_num_seqs + 7) / 8;
  // With one prompt or several, with a sample or without, and beside decodes.
  const uint32_t num_with_prompts = 4 + 2 + (max_num_seqs + 31) / 32;
  return num_decode + num_with_prompts * kPromptSizes;
}

uint32_t UsualGpuBatchedTokens(const ModelConfig& config) {
  const uint64_t attention = 2ull * config.q_size() + 2ull * config.kv_size();
  const uint64_t weights =
      config.num_layers * (attention + 3ull * config.intermediate_size) * config.hidden_size;
  // Some 20 ms of an H100.
  constexpr uint64_t kMultiplications = 6'000'000'000'000;
  uint32_t tokens = 8192;
  while (tokens > 2048 && tokens * weights > kMultiplications) tokens /= 2;
  return tokens;
}

absl::StatusOr<MemoryPlan> PlanGpuMemory(const ModelConfig& config, uint64_t weights_bytes,
                                         DType dtype, const GpuMemoryLimits& wanted) {
  MILI_RETURN_IF_ERROR(Validate(config));
  GpuMemoryLimits limits = wanted;
  if (limits.max_num_batched_tokens == 0) {
    limits.max_num_batched_tokens = std::max(UsualGpuBatchedTokens(config), limits.max_num_seqs);
  }
  MILI_RETURN_IF_ERROR(CheckLimits(config, limits));
  MemoryPlan plan;
  plan.weights_bytes = weights_bytes;
  plan.kv = {config.num_layers, config.num_kv_heads, config.head_dim, kGpuPageSizeTokens, dtype};
  plan.max_num_seqs = limits.max_num_seqs;
  plan.max_num_batched_tokens = limits.max_num_batched_tokens;
  plan.process_bytes = 0;
  plan.graphs_bytes =
      uint64_t{MaxGpuGraphs(limits.max_num_seqs)} * config.num_layers * kGraphBytesALayer;
  plan.reserve_bytes = kReserveBytes;
  plan.max_model_len = limits.max_model_len == 0 ? config.max_position : limits.max_model_len;
  plan.workspace_bytes = WorkspaceBytes(config, limits, plan.max_model_len);

  const uint64_t others = limits.total_bytes - std::min(limits.free_bytes, limits.total_bytes);
  const auto usable =
      static_cast<uint64_t>(static_cast<double>(limits.total_bytes) * limits.utilization);
  const uint64_t available = usable > others ? usable - others : 0;
  const uint64_t fixed = plan.total_bytes();
  const uint64_t left = available > fixed ? available - fixed : 0;
  const uint64_t page_bytes = plan.kv.bytes_per_page();
  const uint64_t pages_of_one = DivideUp(plan.max_model_len, kGpuPageSizeTokens);
  const bool is_given = limits.kv_cache_memory_bytes != 0;
  uint64_t num_pages = is_given ? limits.kv_cache_memory_bytes / page_bytes
                                : std::min(left / page_bytes, pages_of_one * limits.max_num_seqs);
  num_pages = std::min(num_pages, kMaxPages);
  if (limits.max_model_len == 0 && num_pages > 0) {
    plan.max_model_len = static_cast<uint32_t>(
        std::min<uint64_t>(plan.max_model_len, num_pages * kGpuPageSizeTokens));
  }
  const uint64_t pages_needed = DivideUp(plan.max_model_len, kGpuPageSizeTokens);
  if (is_given && num_pages < pages_needed) {
    return absl::ResourceExhaustedError(
        absl::StrCat("kv-cache-memory-bytes of ", limits.kv_cache_memory_bytes, " holds ",
                     num_pages * kGpuPageSizeTokens, " tokens, less than one context of ",
                     plan.max_model_len, "; a token takes ", plan.kv.bytes_per_token(), " bytes"));
  }
  const uint64_t needed = fixed + (is_given ? num_pages : pages_needed) * page_bytes;
  if (needed > available || num_pages == 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("weights ", Mib(plan.weights_bytes), ", workspace ", Mib(plan.workspace_bytes),
                     ", graphs and reserve ", Mib(plan.graphs_bytes + plan.reserve_bytes),
                     " and KV ", Mib(needed - fixed), " exceed the ", Mib(available),
                     " that may be used of the GPU's ", Mib(limits.total_bytes), " (", Mib(others),
                     " are taken) by ", Mib(needed - std::min(needed, available)),
                     Remedy(is_given, left, page_bytes, others > kContextBytes)));
  }
  plan.num_pages = static_cast<uint32_t>(num_pages);
  plan.kv_bytes = num_pages * page_bytes;
  return plan;
}

}  // namespace mili

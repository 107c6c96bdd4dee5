#include "common/core/memory_plan.h"

#include <algorithm>
#include <limits>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "common/base/status_macros.h"
#include "common/core/plan_limits.h"

namespace mili {
namespace {

constexpr uint32_t kMaxPageSizeTokens = 1024;
constexpr uint32_t kMaxBatchedTokens = 1u << 20;
constexpr uint64_t kMaxPages = std::numeric_limits<uint32_t>::max();

// Nothing for a part that this device does not have.
std::string Line(const char* name, uint64_t bytes) {
  return bytes == 0 ? "" : absl::StrCat(name, Mib(bytes), "\n");
}

absl::Status CheckLimits(const ModelConfig& config, const MemoryLimits& limits) {
  MILI_RETURN_IF_ERROR(CheckBatchLimits(
      config, {limits.max_model_len, limits.max_num_seqs, limits.max_num_batched_tokens},
      kMaxBatchedTokens));
  MILI_RETURN_IF_ERROR(CheckLimit("page-size", limits.page_size_tokens, kMaxPageSizeTokens));
  return CheckLimit("threads", limits.num_threads, 4096);
}

// Activations, logits tile, staging and per-slot state of a worker, each part rounded to a cache
// line. Mirrors the buffers of worker/model (Workspace) and worker/engine (StepBatch, slots).
uint64_t WorkspaceBytes(const ModelConfig& config, const MemoryLimits& limits,
                        uint64_t max_model_len) {
  const uint64_t tokens = limits.max_num_batched_tokens;
  const uint64_t seqs = limits.max_num_seqs;
  const uint64_t hidden = config.hidden_size;
  const uint64_t attention = 2ull * config.q_size() + 2ull * config.kv_size();
  const uint64_t mlp = 2ull * config.intermediate_size;
  const uint64_t tile_rows = std::min<uint64_t>(kHeadTileRows, tokens);
  const uint64_t pages_per_seq = DivideUp(max_model_len, limits.page_size_tokens);

  const uint64_t activations = tokens * 4 * (3 * hidden + std::max(attention, mlp));
  const uint64_t linear = LinearWorkspaceBound(
      tokens, std::max({config.hidden_size, config.q_size(), config.intermediate_size}));
  const uint64_t rope = tokens * 4 * config.head_dim;
  const uint64_t head = tile_rows * 4 * (3 * hidden + config.vocab_size);
  const uint64_t sampling = limits.num_threads * SampleWorkspaceBound(config.vocab_size);
  const uint64_t step_batch = tokens * 24 + seqs * (32 + 4 * pages_per_seq);
  const uint64_t slots = seqs * max_model_len * 4;
  return activations + linear + rope + head + sampling + kNumStepBatches * step_batch + slots +
         64 * 64;
}

}  // namespace

uint64_t LinearWorkspaceBound(uint64_t num_tokens, uint64_t in_features) {
  // The widest form of an activation is two bf16 parts, in tiles of 32 columns.
  return (num_tokens + 31) / 32 * 32 * DivideUp(in_features, 32) * 128 + 4096;
}

uint64_t SampleWorkspaceBound(uint64_t vocab_size) { return 16 * vocab_size + 16384; }

absl::StatusOr<MemoryPlan> PlanMemory(const ModelConfig& config, uint64_t weights_bytes,
                                      DType kv_dtype, const MemoryLimits& limits) {
  MILI_RETURN_IF_ERROR(Validate(config));
  MILI_RETURN_IF_ERROR(CheckLimits(config, limits));
  MemoryPlan plan;
  plan.weights_bytes = weights_bytes;
  plan.kv = {config.num_layers, config.num_kv_heads, config.head_dim, limits.page_size_tokens,
             kv_dtype};
  plan.max_num_seqs = limits.max_num_seqs;
  plan.max_num_batched_tokens = limits.max_num_batched_tokens;
  plan.max_model_len = limits.max_model_len == 0 ? config.max_position : limits.max_model_len;

  const uint64_t page_bytes = plan.kv.bytes_per_page();
  const uint64_t page_size = limits.page_size_tokens;
  const uint64_t pages_of_one = DivideUp(plan.max_model_len, page_size);
  // Fewer than 2^24 positions times 2^12 sequences: no overflow.
  const uint64_t pages_of_all = std::min(pages_of_one * limits.max_num_seqs, kMaxPages);
  const bool is_given = limits.kv_cache_memory_bytes != 0;
  uint64_t num_pages = is_given ? std::min(limits.kv_cache_memory_bytes / page_bytes, kMaxPages)
                                : std::min(limits.available_bytes / 4 / page_bytes, pages_of_all);
  if (!is_given && limits.max_model_len != 0) num_pages = std::max(num_pages, pages_of_one);
  if (limits.max_model_len == 0 && num_pages > 0) {
    plan.max_model_len =
        static_cast<uint32_t>(std::min<uint64_t>(plan.max_model_len, num_pages * page_size));
  }
  plan.workspace_bytes = WorkspaceBytes(config, limits, plan.max_model_len);

  const uint64_t pages_needed = DivideUp(plan.max_model_len, page_size);
  if (is_given && num_pages < pages_needed) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "kv-cache-memory-bytes of ", limits.kv_cache_memory_bytes, " holds ", num_pages * page_size,
        " tokens, less than one context of ", plan.max_model_len,
        num_pages == 0
            ? std::string("; a page takes ") + std::to_string(page_bytes) + " bytes"
            : "; --max-model-len " + std::to_string(num_pages * page_size) + " would fit"));
  }
  // Without a figure of the free memory (0) only what was asked for counts.
  num_pages = std::max(num_pages, pages_needed);
  const uint64_t fixed_bytes = plan.weights_bytes + plan.workspace_bytes + plan.process_bytes;
  const uint64_t least_bytes = fixed_bytes + (is_given ? num_pages : pages_needed) * page_bytes;
  if (limits.available_bytes != 0 && least_bytes > limits.available_bytes) {
    const uint64_t left_bytes =
        limits.available_bytes > fixed_bytes ? limits.available_bytes - fixed_bytes : 0;
    const uint64_t tokens_that_fit = left_bytes / page_bytes * page_size;
    return absl::ResourceExhaustedError(absl::StrCat(
        "weights ", Mib(plan.weights_bytes), ", workspace ", Mib(plan.workspace_bytes),
        ", the program ", Mib(plan.process_bytes), " and KV ", Mib(least_bytes - fixed_bytes),
        " exceed the available ", Mib(limits.available_bytes), " by ",
        Mib(least_bytes - limits.available_bytes),
        tokens_that_fit == 0 ? std::string("; a smaller model or more memory is needed")
        : is_given ? "; --kv-cache-memory-bytes " + std::to_string(left_bytes) + " would fit"
                   : "; --max-model-len " + std::to_string(tokens_that_fit) + " would fit"));
  }
  if (!is_given && limits.available_bytes != 0) {
    num_pages = std::min(num_pages, (limits.available_bytes - fixed_bytes) / page_bytes);
  }
  plan.num_pages = static_cast<uint32_t>(num_pages);
  plan.kv_bytes = num_pages * page_bytes;
  return plan;
}

std::string Describe(const MemoryPlan& plan) {
  const uint64_t tokens = plan.num_kv_tokens();
  const auto concurrency = [&](uint64_t context) {
    const uint64_t pages = DivideUp(context, plan.kv.page_size_tokens);
    return absl::StrFormat("%.1f",
                           static_cast<double>(plan.num_pages) / static_cast<double>(pages));
  };
  std::string text =
      absl::StrCat("weights    ", Mib(plan.weights_bytes), "\n",  //
                   "KV cache   ", Mib(plan.kv_bytes), " = ", plan.num_pages, " pages x ",
                   plan.kv.page_size_tokens, " tokens = ", tokens, " tokens (",
                   absl::string_view(NameOf(plan.kv.dtype).data(), NameOf(plan.kv.dtype).size()),
                   ", ", plan.kv.bytes_per_token(), " bytes a token)\n",  //
                   "workspace  ", Mib(plan.workspace_bytes), "\n",        //
                   Line("program    ", plan.process_bytes), Line("graphs     ", plan.graphs_bytes),
                   Line("reserve    ", plan.reserve_bytes),       //
                   "total      ", Mib(plan.total_bytes()), "\n",  //
                   "limits     ", plan.max_num_seqs, " sequences, ", plan.max_num_batched_tokens,
                   " tokens a step, context ", plan.max_model_len, "\n",  //
                   "fits       ");
  std::string separator;
  for (const auto& [context, name] : {std::pair{4096u, "4k"}, std::pair{32768u, "32k"}}) {
    if (context > plan.max_model_len) continue;
    absl::StrAppend(&text, separator, concurrency(context), " sequences of ", name);
    separator = ", ";
  }
  if (separator.empty()) {
    absl::StrAppend(&text, concurrency(std::max(plan.max_model_len, 1u)), " sequences of ",
                    plan.max_model_len);
  }
  return text + "\n";
}

}  // namespace mili

#include "worker/engine/cuda/step_padding.h"

#include <algorithm>

namespace mili::worker {
namespace {

// 1, 2, 4, then multiples of 8.
uint32_t PaddedDecodes(uint32_t count) {
  if (count <= 2) return count;
  return count <= 4 ? 4 : (count + 7) / 8 * 8;
}

// 8, 16, then multiples of 32: fewer, as each comes with every size of the prompts.
uint32_t PaddedDecodesBesidePrompts(uint32_t count) {
  if (count <= 8) return 8;
  return count <= 16 ? 16 : (count + 31) / 32 * 32;
}

uint32_t PaddedPrompts(uint32_t count) { return count == 1 ? 1 : kMaxGraphPrompts; }

// 16, 32, then multiples of 64.
uint32_t PaddedTokens(uint32_t count) {
  if (count <= 16) return 16;
  return count <= 32 ? 32 : (count + 63) / 64 * 64;
}

// Of so many rows; not any where they are too many.
StepPadding PaddingOf(uint32_t num_decode, uint32_t num_prompts, uint32_t num_prompt_tokens,
                      bool samples, const MemoryPlan& plan) {
  StepPadding padding;
  if (num_prompts == 0) {
    padding.num_decode = std::min(PaddedDecodes(num_decode), plan.max_num_seqs);
    padding.num_head_rows = padding.num_decode;
    return padding;
  }
  if (num_prompts > kMaxGraphPrompts || num_prompt_tokens > kMaxGraphPromptTokens) return {};
  if (num_decode > 0) {
    padding.num_decode = std::min(PaddedDecodesBesidePrompts(num_decode), plan.max_num_seqs);
    if (padding.num_decode + num_prompt_tokens > plan.max_num_batched_tokens) return {};
  }
  padding.num_prompts = num_decode > 0 ? kMaxGraphPrompts : PaddedPrompts(num_prompts);
  padding.num_prompt_tokens =
      std::min(PaddedTokens(num_prompt_tokens), plan.max_num_batched_tokens - padding.num_decode);
  if (samples) {
    // Padding never samples, so there are no more of these than sequences.
    padding.num_head_rows = std::min(padding.num_decode + padding.num_prompts, plan.max_num_seqs);
  }
  return padding;
}

}  // namespace

StepPadding PaddingOf(const StepBatch& batch, const MemoryPlan& plan) {
  const uint32_t num_rows = batch.num_rows();
  if (!batch.scores.empty() || batch.samples.size() > num_rows) return {};
  uint32_t num_decode = 0;
  for (uint32_t row = 0; row < num_rows; ++row) {
    num_decode += batch.cu_seqlens[row + 1] - batch.cu_seqlens[row] == 1 ? 1 : 0;
  }
  return PaddingOf(num_decode, num_rows - num_decode, batch.num_tokens() - num_decode,
                   num_decode > 0 || !batch.samples.empty(), plan);
}

std::vector<StepPadding> AllPaddings(const MemoryPlan& plan) {
  std::vector<StepPadding> all;
  const auto add = [&](uint32_t num_decode, uint32_t num_prompts, uint32_t num_tokens,
                       bool samples) {
    const StepPadding padding = PaddingOf(num_decode, num_prompts, num_tokens, samples, plan);
    if (padding.is_any() && std::find(all.begin(), all.end(), padding) == all.end()) {
      all.push_back(padding);
    }
  };
  const auto add_prompts = [&](uint32_t num_decode, uint32_t num_prompts, bool samples) {
    for (uint32_t tokens = 1; tokens <= kMaxGraphPromptTokens; tokens = PaddedTokens(tokens) + 1) {
      add(num_decode, num_prompts, tokens, samples);
    }
  };
  for (const uint32_t size : {1u, 2u, 4u, 8u}) add(size, 0, 0, true);
  add_prompts(0, 1, true);
  for (uint32_t size = 16; size < plan.max_num_seqs + 8; size += 8) add(size, 0, 0, true);
  for (uint32_t size = 8; size < plan.max_num_seqs + 32; size = size < 32 ? size * 2 : size + 32) {
    add_prompts(size, 1, true);
  }
  add_prompts(0, 2, true);
  add_prompts(0, 1, false);
  add_prompts(0, 2, false);
  return all;
}

}  // namespace mili::worker

// StepPadding: the few sizes to which steps are padded, so that few captured graphs serve them all.
// Pure; decided on the host.
#pragma once

#include <cstdint>
#include <vector>

#include "common/core/gpu_memory_plan.h"
#include "common/core/memory_plan.h"
#include "worker/model/step_batch.h"

namespace mili::worker {

// To what a step is padded. All zero: not at all.
struct StepPadding {
  uint32_t num_decode = 0;         // sequences with one token,
  uint32_t num_prompts = 0;        // sequences with more,
  uint32_t num_prompt_tokens = 0;  // and all their tokens
  uint32_t num_head_rows = 0;      // rows that sample
  bool is_any() const { return num_decode + num_prompts > 0; }
  friend bool operator==(const StepPadding&, const StepPadding&) = default;
};
// Steps of decodes: 1, 2, 4, then multiples of 8 sequences. Prompts: one or up to
// kMaxGraphPrompts, with kMaxGraphPromptTokens together. Decodes beside prompts: 8, 16, then
// multiples of 32. Others are not padded, nor are those that score or sample a row twice. Never
// beyond what the plan allows.
inline constexpr uint32_t kMaxGraphPromptTokens = 256;
StepPadding PaddingOf(const StepBatch& batch, const MemoryPlan& plan);
// All that PaddingOf can give, the ones that are met first in front.
std::vector<StepPadding> AllPaddings(const MemoryPlan& plan);

}  // namespace mili::worker

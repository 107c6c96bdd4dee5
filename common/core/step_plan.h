// StepPlan and StepResult: what the router asks of a worker in one forward pass, and what comes
// back. Plain data; worker.proto documents every field and is their form on the wire (common/wire
// converts).
#pragma once

#include <cstdint>
#include <vector>

#include <absl/status/status.h>
#include <absl/time/time.h>

#include "common/base/ids.h"
#include "common/core/sampling_params.h"

namespace mili {

struct SeqStart {
  SlotId slot;
  std::vector<TokenId> token_ids;  // prompt and, after a restart, what was produced since
  uint32_t num_prompt_tokens = 0;
  uint32_t num_cached_tokens = 0;  // their KV is in the pages already; < token_ids.size()
  std::vector<PageId> pages;       // in order of position
  SamplingParams sampling;
};

enum class TokenSource { kKnown, kLastSampled };

struct SeqStep {
  SlotId slot;
  uint32_t num_tokens = 1;
  std::vector<PageId> new_pages;  // appended to the slot's table before computing
  TokenSource source = TokenSource::kKnown;
  bool sample = false;
};

// The worker applies release, then start, then step.
struct StepPlan {
  Epoch epoch;
  StepId step_id;
  std::vector<SlotId> release;
  std::vector<SeqStart> start;
  std::vector<SeqStep> step;
};

struct TopLogprob {
  TokenId id = 0;
  float logprob = 0;
};

struct SampledToken {
  TokenId id = 0;
  float logprob = 0;            // of the raw logits; only if logprobs were asked for
  uint32_t rank = 0;            // 1: the most likely
  std::vector<TopLogprob> top;  // the likeliest first
};

struct RowResult {
  SlotId slot;
  std::vector<SampledToken> tokens;           // none for a chunk that did not sample
  std::vector<SampledToken> prompt_logprobs;  // of the prompt tokens after those the row computed
  absl::Status status;                        // not OK: this row alone failed
};

struct StepResult {
  Epoch epoch;
  StepId step_id;
  std::vector<RowResult> rows;
  absl::Duration compute;
  absl::Duration idle;
};

}  // namespace mili

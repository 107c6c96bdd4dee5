// SamplingParams: how the worker turns logits into a token. Every value is resolved at the door;
// see worker.proto for meaning and ranges of each, which these mirror.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/ids.h"

namespace mili {

struct LogitBias {
  TokenId token_id = 0;
  float bias = 0;
  friend bool operator==(const LogitBias&, const LogitBias&) = default;
};

struct SamplingParams {
  float temperature = 1;  // 0 is greedy
  float top_p = 1;        // (0, 1]
  uint32_t top_k = 0;     // 0: all
  float min_p = 0;        // [0, 1]
  uint64_t seed = 0;      // Philox key, with choice_idx and position
  uint32_t choice_idx = 0;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  float repetition_penalty = 1;
  std::vector<LogitBias> logit_bias;
  // While fewer output tokens than this exist, banned_token_ids cannot be sampled.
  uint32_t min_tokens = 0;
  std::vector<TokenId> banned_token_ids;
  // Alternatives to report per sampled token; nothing: no logprobs.
  std::optional<uint32_t> num_logprobs;
  // Alternatives to report per prompt token; nothing: none.
  std::optional<uint32_t> num_prompt_logprobs;

  friend bool operator==(const SamplingParams&, const SamplingParams&) = default;
};

}  // namespace mili

#include "worker/engine/sampling_check.h"

#include <cmath>

#include <absl/strings/str_cat.h>

namespace mili::worker {
namespace {

absl::Status Require(bool condition, const char* field, double value, const char* allowed) {
  if (condition) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; expected ", allowed));
}

}  // namespace

absl::Status CheckSampling(const SamplingParams& s, uint32_t vocab_size) {
  const auto is_finite = [](float value) { return std::isfinite(value); };
  absl::Status status;
  status.Update(Require(is_finite(s.temperature) && s.temperature >= 0, "temperature",
                        s.temperature, "0 or more"));
  status.Update(Require(s.top_p > 0 && s.top_p <= 1, "top_p", s.top_p, "above 0, to 1"));
  status.Update(Require(s.min_p >= 0 && s.min_p <= 1, "min_p", s.min_p, "0 to 1"));
  status.Update(
      Require(is_finite(s.presence_penalty), "presence_penalty", s.presence_penalty, "a number"));
  status.Update(Require(is_finite(s.frequency_penalty), "frequency_penalty", s.frequency_penalty,
                        "a number"));
  status.Update(Require(is_finite(s.repetition_penalty) && s.repetition_penalty > 0,
                        "repetition_penalty", s.repetition_penalty, "above 0"));
  for (const LogitBias& bias : s.logit_bias) {
    status.Update(
        Require(bias.token_id < vocab_size, "logit_bias token", bias.token_id, "a token id"));
    status.Update(Require(is_finite(bias.bias), "logit_bias", bias.bias, "a number"));
  }
  for (const TokenId id : s.banned_token_ids) {
    status.Update(Require(id < vocab_size, "banned token", id, "a token id"));
  }
  status.Update(Require(s.num_logprobs.value_or(0) <= kMaxTopLogprobs, "num_logprobs",
                        s.num_logprobs.value_or(0), "at most 1024"));
  status.Update(Require(s.num_prompt_logprobs.value_or(0) <= kMaxTopLogprobs, "num_prompt_logprobs",
                        s.num_prompt_logprobs.value_or(0), "at most 1024"));
  return status;
}

}  // namespace mili::worker

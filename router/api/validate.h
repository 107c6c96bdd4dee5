// Validation: the one place where a GenerateSpec of either API is checked against behaviour.md's
// ranges and defaults are resolved. Pure functions, any thread; nothing is started before they say
// yes. Every error names the field, what was found and what is allowed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "common/core/request.h"
#include "router/api/generate_spec.h"
#include "router/api/served_model.h"

namespace mili::router {

// What the operator allows.
struct RequestLimits {
  uint32_t max_logprobs = 20;
  // Cap of max_tokens where the client names none (gRPC).
  uint32_t default_max_tokens = 1024;
  absl::Duration request_timeout = absl::InfiniteDuration();  // whole life
  absl::Duration queue_timeout = absl::Seconds(60);           // to the first slot
};

// A spec that passed: everything resolved but what only the tokenised prompt can decide.
struct ValidSpec {
  std::string request_id;
  std::vector<Prompt> prompts;
  SamplingParams sampling;  // the seed is final
  uint32_t num_choices = 1;
  std::optional<uint32_t> max_tokens;   // nothing: what the context leaves, capped
  std::vector<TokenId> stop_token_ids;  // with the model's own, unless ignore_eos
  std::vector<std::string> stop;
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  std::optional<bool> add_special_tokens;  // nothing: as the kind of prompt is used to
  int32_t priority = 0;
  std::string cache_salt;
  bool return_token_ids = false;
  bool echo = false;
  bool stream = false;
  absl::Time arrival;
  absl::Time deadline;
  absl::Time queue_deadline;

  uint64_t PromptBytes() const;
};

// INVALID_ARGUMENT with the field, NOT_FOUND for another model, UNIMPLEMENTED for a constraint.
// `seed` is taken where the client sent none.
absl::StatusOr<ValidSpec> Validate(GenerateSpec spec, const ServedModel& model,
                                   const RequestLimits& limits, uint64_t seed, absl::Time now);

// OK if clients may call the model `name`; empty is allowed. NOT_FOUND lists what is served.
absl::Status CheckModelName(std::string_view name, const ServedModel& model);

// A prompt's ids against the vocabulary; `field` is named in the error.
absl::Status CheckTokenIds(const std::vector<TokenId>& ids, const ServedModel& model,
                           std::string_view field);

// How many tokens may be produced after a prompt of `num_prompt_tokens`. INVALID_ARGUMENT for an
// empty prompt and, with reason context_length_exceeded and the three numbers, for one that does
// not fit.
absl::StatusOr<uint32_t> ResolveMaxTokens(const ValidSpec& spec, uint32_t num_prompt_tokens,
                                          const ServedModel& model, const RequestLimits& limits);

inline constexpr char kContextLengthExceeded[] = "context_length_exceeded";
inline constexpr char kModelNotFound[] = "model_not_found";

}  // namespace mili::router

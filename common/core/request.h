// Request: what the client asked, validated and tokenised. Immutable and shared by the scheduler
// loop and the stream that answers; it dies when both have let go, and its Ticket with it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/time/time.h>

#include "common/base/ids.h"
#include "common/core/sampling_params.h"
#include "common/core/step_plan.h"

namespace mili {

// A place behind the door; returning it is its destructor's work.
class Ticket {
 public:
  virtual ~Ticket() = default;
};

struct Request {
  RequestKey key;
  // The client's id, or one made up; for logs and Control.
  std::string request_id;
  std::vector<TokenId> prompt_token_ids;  // at least one
  // choice_idx is set per sequence by the scheduler; all else is final.
  SamplingParams sampling;
  uint32_t num_choices = 1;
  // 0 only where sampling.num_prompt_logprobs is set: the prompt is scored, nothing produced.
  // prompt + max_tokens fits the context.
  uint32_t max_tokens = 16;
  // Ids that end a choice; the model's own end tokens are among them unless ignore_eos. Not counted
  // before sampling.min_tokens.
  std::vector<TokenId> stop_token_ids;
  int32_t priority = 0;  // lower runs first
  std::string cache_salt;
  absl::Time arrival;
  absl::Time deadline = absl::InfiniteFuture();        // whole life: DEADLINE_EXCEEDED
  absl::Time queue_deadline = absl::InfiniteFuture();  // to the first slot: UNAVAILABLE
  std::unique_ptr<Ticket> ticket;
};

using RequestPtr = std::shared_ptr<const Request>;

enum class FinishReason { kStop, kLength, kAbort };

// "stop", "length", "abort".
constexpr const char* NameOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAbort:
      return "abort";
  }
  return "?";
}

// The end of one choice.
struct Finish {
  // Not OK: the request failed with this, all choices at once; `reason` means nothing then.
  absl::Status status;
  FinishReason reason = FinishReason::kStop;
  // The stop token that ended it; it is the last token delivered, not part of the text.
  std::optional<TokenId> matched_token_id;
};

// News of one choice, from the scheduler to whoever answers. Tokens come exactly once, in order.
struct TokenEvent {
  RequestKey request;
  uint32_t choice_idx = 0;
  std::vector<SampledToken> tokens;
  // Only of choice 0 and before its first token: logprobs of prompt tokens 1.., in order.
  std::vector<SampledToken> prompt_logprobs;
  uint32_t num_cached_tokens = 0;
  // Set on the last event of the choice; every choice gets exactly one.
  std::optional<Finish> finish;
};

}  // namespace mili

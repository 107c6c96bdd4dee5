// ChoiceOutput: turns the tokens of one choice into what the client reads: text cut at stop
// strings, tokens with their logprobs, the reason it ended. Owned by one output thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/core/request.h"
#include "common/text/tokenizer.h"
#include "router/api/stop_matcher.h"
#include "router/api/validate.h"

namespace mili::router {

// A token as the client may ask to see it.
struct OutputToken {
  SampledToken token;
  uint32_t text_offset = 0;  // code points of the choice's text before it
};

// How a choice ended.
struct ChoiceEnd {
  FinishReason reason = FinishReason::kStop;
  std::optional<TokenId> matched_token_id = {};
  std::optional<std::string> matched_stop = {};
  uint32_t num_output_tokens = 0;  // billed: nothing after a stop string
  uint32_t num_cached_tokens = 0;  // of the prompt
};

// The next piece of one choice.
struct ChoiceDelta {
  uint32_t prompt_idx = 0;
  uint32_t choice_idx = 0;  // of this prompt
  std::string text = {};
  std::vector<OutputToken> tokens = {};  // only if the client asked for ids or logprobs
  std::optional<ChoiceEnd> end = {};
};

class ChoiceOutput {
 public:
  // `tokenizer` may be null: then there is never text. Both outlive the object.
  ChoiceOutput(const Tokenizer* tokenizer, const ValidSpec& spec, uint32_t prompt_idx,
               uint32_t choice_idx);

  // Takes the tokens of one event and, with its last event, the end. The delta's `end` is set once;
  // after that nothing may be pushed.
  ChoiceDelta Push(const std::vector<SampledToken>& tokens, const std::optional<Finish>& finish);

  bool ended() const { return ended_; }
  uint32_t num_output_tokens() const { return num_output_tokens_; }

 private:
  void AppendText(std::string_view text, bool may_stop, ChoiceDelta* delta);
  void End(FinishReason reason, ChoiceDelta* delta);

  const ValidSpec& spec_;
  const uint32_t prompt_idx_;
  const uint32_t choice_idx_;
  const bool keep_tokens_;
  std::optional<IncrementalDetokenizer> detokenizer_;
  StopMatcher stops_;
  uint32_t num_output_tokens_ = 0;
  uint32_t num_code_points_ = 0;  // of the text that the tokens so far became
  bool ended_ = false;
};

// Code points in valid UTF-8.
uint32_t CountCodePoints(std::string_view text);

}  // namespace mili::router

#include "router/api/choice_output.h"

#include "common/base/check.h"

namespace mili::router {

uint32_t CountCodePoints(std::string_view text) {
  uint32_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

ChoiceOutput::ChoiceOutput(const Tokenizer* tokenizer, const ValidSpec& spec, uint32_t prompt_idx,
                           uint32_t choice_idx)
    : spec_(spec),
      prompt_idx_(prompt_idx),
      choice_idx_(choice_idx),
      keep_tokens_(spec.return_token_ids || spec.sampling.num_logprobs.has_value()),
      stops_(spec.stop) {
  if (tokenizer != nullptr) detokenizer_.emplace(*tokenizer, spec.skip_special_tokens);
}

// Text of the first min_tokens tokens is never searched: a stop string counts only after them.
void ChoiceOutput::AppendText(std::string_view text, bool may_stop, ChoiceDelta* delta) {
  num_code_points_ += CountCodePoints(text);
  delta->text += may_stop ? stops_.Push(text) : std::string(text);
}

void ChoiceOutput::End(FinishReason reason, ChoiceDelta* delta) {
  ended_ = true;
  delta->end = ChoiceEnd{.reason = reason, .num_output_tokens = num_output_tokens_};
}

ChoiceDelta ChoiceOutput::Push(const std::vector<SampledToken>& tokens,
                               const std::optional<Finish>& finish) {
  MILI_CHECK(!ended_, "nothing comes after the end of a choice");
  ChoiceDelta delta{.prompt_idx = prompt_idx_, .choice_idx = choice_idx_};
  const auto stop_here = [&] {
    const std::string& stop = spec_.stop[*stops_.matched()];
    if (spec_.include_stop_str_in_output) delta.text += stop;
    End(FinishReason::kStop, &delta);
    delta.end->matched_stop = stop;
  };
  std::string text;  // of one token
  for (size_t i = 0; i < tokens.size(); ++i) {
    ++num_output_tokens_;
    if (keep_tokens_) delta.tokens.push_back({tokens[i], num_code_points_});
    const bool is_stop_token =
        finish.has_value() && finish->matched_token_id.has_value() && i + 1 == tokens.size();
    if (!detokenizer_.has_value() || is_stop_token) continue;
    text.clear();
    detokenizer_->Push(tokens[i].id, text);
    AppendText(text, num_output_tokens_ > spec_.sampling.min_tokens, &delta);
    if (!stops_.matched().has_value()) continue;
    stop_here();
    return delta;
  }
  if (!finish.has_value()) return delta;
  if (detokenizer_.has_value()) {
    text.clear();
    detokenizer_->Flush(text);
    AppendText(text, num_output_tokens_ > spec_.sampling.min_tokens, &delta);
    if (stops_.matched().has_value()) {
      stop_here();
      return delta;
    }
    delta.text += stops_.Flush();
  }
  End(finish->reason, &delta);
  delta.end->matched_token_id = finish->matched_token_id;
  return delta;
}

}  // namespace mili::router

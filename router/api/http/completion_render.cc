#include "router/api/http/completion_render.h"

#include <algorithm>
#include <cmath>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <nlohmann/json.hpp>

#include "router/api/token_text.h"

namespace mili::router {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no infinity; OpenAI's lowest value stands for it.
double Finite(float logprob) {
  return std::isfinite(logprob) ? std::max<double>(logprob, -9999.0) : -9999.0;
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// `text` as a JSON string. What needs no escape, nearly every token, is quoted as it is.
std::string Quoted(const std::string& text) {
  const bool is_plain = std::all_of(text.begin(), text.end(), [](const char c) {
    return c >= ' ' && c <= '~' && c != '"' && c != '\\';
  });
  return is_plain ? absl::StrCat("\"", text, "\"") : Dump(Json(text));
}

// Legacy logprobs: parallel arrays.
struct LogprobArrays {
  Json tokens = Json::array();
  Json token_logprobs = Json::array();
  Json top_logprobs = Json::array();
  Json text_offset = Json::array();

  Json Take() && {
    Json json;
    json["tokens"] = std::move(tokens);
    json["token_logprobs"] = std::move(token_logprobs);
    json["top_logprobs"] = std::move(top_logprobs);
    json["text_offset"] = std::move(text_offset);
    return json;
  }
};

std::string NameOfToken(const ServedModel& model, TokenId id, bool as_id) {
  return as_id ? absl::StrCat("token_id:", id) : TokenText(model, id);
}

void Append(const SampledToken& token, uint32_t offset, const ServedModel& model, bool as_id,
            LogprobArrays* to) {
  const std::string name = NameOfToken(model, token.id, as_id);
  to->tokens.push_back(name);
  to->token_logprobs.push_back(Finite(token.logprob));
  Json top = Json::object();
  for (const TopLogprob& alternative : token.top) {
    top[NameOfToken(model, alternative.id, as_id)] = Finite(alternative.logprob);
  }
  top[name] = Finite(token.logprob);
  to->top_logprobs.push_back(std::move(top));
  to->text_offset.push_back(offset);
}

// The echoed prompt: its first token was never predicted, so it has null twice.
void AppendPrompt(const PromptOutcome& prompt, const ServedModel& model, bool as_id,
                  LogprobArrays* to) {
  uint32_t offset = 0;
  for (size_t i = 0; i < prompt.token_ids.size(); ++i) {
    if (i == 0 || i > prompt.logprobs.size()) {
      to->tokens.push_back(NameOfToken(model, prompt.token_ids[i], as_id));
      to->token_logprobs.push_back(nullptr);
      to->top_logprobs.push_back(nullptr);
      to->text_offset.push_back(offset);
    } else {
      Append(prompt.logprobs[i - 1], offset, model, as_id, to);
    }
    offset += CountCodePoints(TokenText(model, prompt.token_ids[i]));
  }
}

// vLLM's form: null for the first token, then {"<id>": {logprob, rank, decoded_token}}.
Json PromptLogprobs(const PromptOutcome& prompt, const ServedModel& model) {
  Json list = Json::array();
  list.push_back(nullptr);
  for (const SampledToken& token : prompt.logprobs) {
    Json entry = Json::object();
    const auto add = [&](TokenId id, float logprob, uint32_t rank) {
      Json& slot = entry[absl::StrCat(id)];
      slot["logprob"] = Finite(logprob);
      slot["rank"] = rank;
      slot["decoded_token"] = TokenText(model, id);
    };
    uint32_t rank = 0;
    for (const TopLogprob& top : token.top) add(top.id, top.logprob, ++rank);
    add(token.id, token.logprob, token.rank);
    list.push_back(std::move(entry));
  }
  return list;
}

Json UsageOf(uint64_t prompt_tokens, uint64_t completion_tokens, uint64_t cached_tokens) {
  Json usage;
  usage["prompt_tokens"] = prompt_tokens;
  usage["completion_tokens"] = completion_tokens;
  usage["total_tokens"] = prompt_tokens + completion_tokens;
  if (cached_tokens > 0) usage["prompt_tokens_details"] = {{"cached_tokens", cached_tokens}};
  return usage;
}

uint64_t NumPromptTokens(const Call& call) {
  uint64_t count = 0;
  for (const PromptOutcome& prompt : call.prompts()) count += prompt.token_ids.size();
  return count;
}

}  // namespace

struct CompletionRender::Piece {
  // `first`: nothing of this choice was shown before.
  static Json Of(CompletionRender& render, const ChoiceDelta& delta, bool first) {
    const Call& call = *render.call_;
    const ValidSpec& spec = call.spec();
    const PromptOutcome& prompt = call.prompts()[delta.prompt_idx];
    const bool echo = spec.echo && first;
    Json choice;
    choice["index"] = delta.prompt_idx * spec.num_choices + delta.choice_idx;
    choice["text"] = echo ? render.echo_texts_[delta.prompt_idx] + delta.text : delta.text;
    choice["logprobs"] = nullptr;
    if (spec.sampling.num_logprobs.has_value()) {
      LogprobArrays arrays;
      if (echo) AppendPrompt(prompt, call.model(), render.options_.tokens_as_token_ids, &arrays);
      const uint32_t base = spec.echo ? render.echo_code_points_[delta.prompt_idx] : 0;
      for (const OutputToken& token : delta.tokens) {
        Append(token.token, base + token.text_offset, call.model(),
               render.options_.tokens_as_token_ids, &arrays);
      }
      choice["logprobs"] = std::move(arrays).Take();
    }
    choice["finish_reason"] = nullptr;
    if (delta.end.has_value()) {
      choice["finish_reason"] = NameOf(delta.end->reason);
      if (delta.end->matched_stop.has_value()) choice["stop_reason"] = *delta.end->matched_stop;
    }
    if (first && render.options_.want_prompt_logprobs) {
      choice["prompt_logprobs"] = PromptLogprobs(prompt, call.model());
    }
    if (!spec.return_token_ids) return choice;
    if (first) choice["prompt_token_ids"] = prompt.token_ids;
    Json& ids = choice["token_ids"] = Json::array();
    for (const OutputToken& token : delta.tokens) ids.push_back(token.token.id);
    return choice;
  }

  static Json Envelope(const CompletionRender& render, Json choices) {
    Json json;
    json["id"] = render.options_.id;
    json["object"] = "text_completion";
    json["created"] = render.options_.created;
    json["model"] = render.call_->model().name;
    json["choices"] = std::move(choices);
    return json;
  }
};

CompletionRender::CompletionRender(Options options, const Call* call)
    : options_(std::move(options)),
      call_(call),
      begun_(call->prompts().size() * call->spec().num_choices, false) {
  if (!call->spec().echo) return;
  for (size_t i = 0; i < call->prompts().size(); ++i) {
    const auto* text = std::get_if<std::string>(&call->spec().prompts[i]);
    echo_texts_.push_back(
        text != nullptr ? *text
                        : call->model().tokenizer->Decode(call->prompts()[i].token_ids, false));
    echo_code_points_.push_back(CountCodePoints(echo_texts_.back()));
  }
}

void CompletionRender::Count(const ChoiceDelta& delta) {
  if (!delta.end.has_value()) return;
  num_completion_tokens_ += delta.end->num_output_tokens;
  num_cached_tokens_ += delta.end->num_cached_tokens;
}

std::string CompletionRender::Whole(const std::vector<ChoiceDelta>& deltas) {
  std::vector<const ChoiceDelta*> sorted;
  for (const ChoiceDelta& delta : deltas) sorted.push_back(&delta);
  std::sort(sorted.begin(), sorted.end(), [](const ChoiceDelta* a, const ChoiceDelta* b) {
    return std::pair(a->prompt_idx, a->choice_idx) < std::pair(b->prompt_idx, b->choice_idx);
  });
  Json choices = Json::array();
  for (const ChoiceDelta* delta : sorted) {
    choices.push_back(Piece::Of(*this, *delta, /*first=*/true));
    Count(*delta);
  }
  Json json = Piece::Envelope(*this, std::move(choices));
  json["usage"] = UsageOf(NumPromptTokens(*call_), num_completion_tokens_, num_cached_tokens_);
  return Dump(json);
}

std::string CompletionRender::Chunk(const ChoiceDelta& delta) {
  const size_t idx = size_t{delta.prompt_idx} * call_->spec().num_choices + delta.choice_idx;
  const bool first = !begun_[idx];
  begun_[idx] = true;
  Count(delta);
  const bool has_more = delta.end.has_value() || call_->spec().sampling.num_logprobs.has_value();
  const bool has_prompt = first && (call_->spec().echo || options_.want_prompt_logprobs);
  if (!has_more && !has_prompt) return PlainChunk(idx, delta, first);
  Json choices = Json::array();
  choices.push_back(Piece::Of(*this, delta, first));
  return Dump(Piece::Envelope(*this, std::move(choices)));
}

// The same bytes as Piece makes of it, without a tree of JSON for each token.
std::string CompletionRender::PlainChunk(size_t choice_idx, const ChoiceDelta& delta, bool first) {
  if (plain_begin_.empty()) {
    plain_begin_ = Dump(Piece::Envelope(*this, Json::array()));
    plain_begin_.resize(plain_begin_.size() - 2);  // "]}"
  }
  std::string chunk =
      absl::StrCat(plain_begin_, "{\"index\":", choice_idx, ",\"text\":", Quoted(delta.text),
                   ",\"logprobs\":null,\"finish_reason\":null");
  if (call_->spec().return_token_ids) {
    const auto append_id = [](std::string* out, const OutputToken& token) {
      absl::StrAppend(out, token.token.id);
    };
    if (first) {
      const std::vector<TokenId>& ids = call_->prompts()[delta.prompt_idx].token_ids;
      absl::StrAppend(&chunk, ",\"prompt_token_ids\":[", absl::StrJoin(ids, ","), "]");
    }
    absl::StrAppend(&chunk, ",\"token_ids\":[", absl::StrJoin(delta.tokens, ",", append_id), "]");
  }
  chunk += "}]}";
  return chunk;
}

std::string CompletionRender::UsageChunk() const {
  Json json = Piece::Envelope(*this, Json::array());
  json["usage"] = UsageOf(NumPromptTokens(*call_), num_completion_tokens_, num_cached_tokens_);
  return Dump(json);
}

}  // namespace mili::router

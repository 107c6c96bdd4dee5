#include "router/api/pb_spec.h"

#include <string>
#include <utility>

#include "common/wire/status_wire.h"
#include "router/api/token_text.h"

namespace mili::router {
namespace {

const char* NameOfConstraint(const v1::GenerateRequest& request) {
  switch (request.constraint_case()) {
    case v1::GenerateRequest::kJsonSchema:
      return "json_schema";
    case v1::GenerateRequest::kJsonObject:
      return "json_object";
    case v1::GenerateRequest::kRegex:
      return "regex";
    case v1::GenerateRequest::kGrammar:
      return "grammar";
    case v1::GenerateRequest::kChoice:
      return "choice";
    case v1::GenerateRequest::CONSTRAINT_NOT_SET:
      break;
  }
  return "";
}

void FillTokenLogprob(TokenId id, float logprob, const ServedModel& model, v1::TokenLogprob* to) {
  to->set_token_id(id);
  to->set_token(TokenText(model, id));
  to->set_token_bytes(std::string(TokenBytes(model, id)));
  to->set_logprob(logprob);
}

void FillLogprob(const SampledToken& token, const ServedModel& model, v1::TokenLogprob* to) {
  FillTokenLogprob(token.id, token.logprob, model, to);
  to->set_rank(token.rank);
  uint32_t rank = 0;
  for (const TopLogprob& top : token.top) {
    v1::TokenLogprob* alternative = to->add_top();
    FillTokenLogprob(top.id, top.logprob, model, alternative);
    alternative->set_rank(++rank);
  }
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kAbort:
      return v1::FINISH_REASON_ABORT;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

}  // namespace

ChatPrompt ChatFromProto(const v1::Messages& messages) {
  ChatPrompt chat;
  for (const v1::Message& message : messages.messages()) {
    chat.turns.push_back({message.role(), message.content()});
  }
  if (messages.has_add_generation_prompt()) {
    chat.add_generation_prompt = messages.add_generation_prompt();
  }
  if (messages.has_enable_thinking()) chat.enable_thinking = messages.enable_thinking();
  return chat;
}

absl::StatusOr<GenerateSpec> SpecFromProto(v1::GenerateRequest&& request) {
  GenerateSpec spec;
  spec.endpoint = Endpoint::kGrpc;
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      spec.prompts.emplace_back(std::move(*request.mutable_text()));
      break;
    case v1::GenerateRequest::kTokenIds:
      spec.prompts.emplace_back(
          std::vector<TokenId>(request.token_ids().ids().begin(), request.token_ids().ids().end()));
      break;
    case v1::GenerateRequest::kMessages:
      spec.prompts.emplace_back(ChatFromProto(request.messages()));
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return BadField("prompt", "is missing; set text, token_ids or messages");
  }
  spec.request_id = std::move(*request.mutable_request_id());
  spec.model = std::move(*request.mutable_model());
  if (request.has_temperature()) spec.temperature = request.temperature();
  if (request.has_top_p()) spec.top_p = request.top_p();
  if (request.has_top_k()) spec.top_k = request.top_k();
  if (request.has_min_p()) spec.min_p = request.min_p();
  if (request.has_seed()) spec.seed = request.seed();
  if (request.has_n()) spec.n = request.n();
  if (request.has_max_tokens()) spec.max_tokens = request.max_tokens();
  if (request.has_min_tokens()) spec.min_tokens = request.min_tokens();
  spec.stop.assign(request.stop().begin(), request.stop().end());
  spec.stop_token_ids.assign(request.stop_token_ids().begin(), request.stop_token_ids().end());
  spec.ignore_eos = request.ignore_eos();
  spec.include_stop_str_in_output = request.include_stop_str_in_output();
  if (request.has_presence_penalty()) spec.presence_penalty = request.presence_penalty();
  if (request.has_frequency_penalty()) spec.frequency_penalty = request.frequency_penalty();
  if (request.has_repetition_penalty()) spec.repetition_penalty = request.repetition_penalty();
  for (const auto& [id, bias] : request.logit_bias()) spec.logit_bias.emplace_back(id, bias);
  if (request.has_logprobs()) spec.logprobs = request.logprobs();
  if (request.has_prompt_logprobs()) spec.prompt_logprobs = request.prompt_logprobs();
  if (request.has_skip_special_tokens()) spec.skip_special_tokens = request.skip_special_tokens();
  if (request.has_add_special_tokens()) spec.add_special_tokens = request.add_special_tokens();
  spec.priority = request.priority();
  spec.cache_salt = std::move(*request.mutable_cache_salt());
  spec.constraint = NameOfConstraint(request);
  spec.return_token_ids = request.return_token_ids();
  return spec;
}

v1::PromptInfo PromptInfoOf(const Call& call) {
  const PromptOutcome& prompt = call.prompts().front();
  v1::PromptInfo info;
  info.set_request_id(call.spec().request_id);
  info.set_model(call.model().name);
  info.set_num_prompt_tokens(static_cast<uint32_t>(prompt.token_ids.size()));
  if (call.spec().return_token_ids) {
    info.mutable_token_ids()->Assign(prompt.token_ids.begin(), prompt.token_ids.end());
  }
  for (const SampledToken& token : prompt.logprobs) {
    FillLogprob(token, call.model(), info.add_logprobs());
  }
  return info;
}

v1::Chunk ChunkOf(const ChoiceDelta& delta, const Call& call) {
  v1::Chunk chunk;
  chunk.set_index(delta.choice_idx);
  chunk.set_text(delta.text);
  for (const OutputToken& token : delta.tokens) {
    if (call.spec().return_token_ids) chunk.add_token_ids(token.token.id);
    if (call.spec().sampling.num_logprobs.has_value()) {
      FillLogprob(token.token, call.model(), chunk.add_logprobs());
    }
  }
  return chunk;
}

v1::FinishInfo FinishInfoOf(const ChoiceDelta& delta, const Call& call) {
  const ChoiceEnd& end = *delta.end;
  v1::FinishInfo info;
  info.set_index(delta.choice_idx);
  info.set_finish_reason(ToProto(end.reason));
  if (end.matched_token_id.has_value()) info.set_matched_token_id(*end.matched_token_id);
  if (end.matched_stop.has_value()) info.set_matched_stop_str(*end.matched_stop);
  v1::Usage* usage = info.mutable_usage();
  usage->set_prompt_tokens(
      static_cast<uint32_t>(call.prompts()[delta.prompt_idx].token_ids.size()));
  usage->set_completion_tokens(end.num_output_tokens);
  usage->set_cached_tokens(end.num_cached_tokens);
  return info;
}

}  // namespace mili::router

#include "tools/mili/answer_json.h"

#include <nlohmann/json.hpp>

#include "tools/mili/answer.h"

namespace mili {
namespace {

using Json = nlohmann::ordered_json;

// Text of a model may end in half a character.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json IdsJson(const google::protobuf::RepeatedField<uint32_t>& ids) {
  Json json = Json::array();
  for (const uint32_t id : ids) json.push_back(id);
  return json;
}

Json LogprobsJson(const google::protobuf::RepeatedPtrField<v1::TokenLogprob>& logprobs) {
  Json json = Json::array();
  for (const v1::TokenLogprob& logprob : logprobs) {
    Json item = {{"token_id", logprob.token_id()},
                 {"token", logprob.token()},
                 {"logprob", logprob.logprob()},
                 {"rank", logprob.rank()}};
    if (logprob.top_size() > 0) item["top"] = LogprobsJson(logprob.top());
    json.push_back(std::move(item));
  }
  return json;
}

Json UsageJson(const v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"completion_tokens", usage.completion_tokens()},
          {"cached_tokens", usage.cached_tokens()}};
}

void AddFinish(const v1::FinishInfo& finish, Json* json) {
  (*json)["finish_reason"] = NameOf(finish.finish_reason());
  if (finish.has_matched_token_id()) (*json)["matched_token_id"] = finish.matched_token_id();
  if (finish.has_matched_stop_str()) (*json)["matched_stop_str"] = finish.matched_stop_str();
}

Json PromptJson(const v1::PromptInfo& info) {
  Json json = {{"request_id", info.request_id()},
               {"model", info.model()},
               {"num_prompt_tokens", info.num_prompt_tokens()},
               {"prompt_token_ids", IdsJson(info.token_ids())}};
  if (info.logprobs_size() > 0) json["prompt_logprobs"] = LogprobsJson(info.logprobs());
  return json;
}

}  // namespace

std::string JsonOf(const v1::GenerateResponse& response, absl::Duration took) {
  Json json = PromptJson(response.prompt_info());
  Json choices = Json::array();
  for (const v1::Choice& choice : response.choices()) {
    Json item = {{"index", choice.index()},
                 {"text", choice.text()},
                 {"token_ids", IdsJson(choice.token_ids())}};
    if (choice.logprobs_size() > 0) item["logprobs"] = LogprobsJson(choice.logprobs());
    AddFinish(choice.finish_info(), &item);
    choices.push_back(std::move(item));
  }
  json["choices"] = std::move(choices);
  json["usage"] = UsageJson(response.usage());
  json["seconds"] = absl::ToDoubleSeconds(took);
  return Dump(json);
}

std::string JsonOf(const v1::GenerateStreamResponse& message) {
  Json json;
  if (message.has_prompt_info()) {
    json["prompt_info"] = PromptJson(message.prompt_info());
  } else if (message.has_chunk()) {
    const v1::Chunk& chunk = message.chunk();
    json["chunk"] = {{"index", chunk.index()},
                     {"text", chunk.text()},
                     {"token_ids", IdsJson(chunk.token_ids())}};
    if (chunk.logprobs_size() > 0) json["chunk"]["logprobs"] = LogprobsJson(chunk.logprobs());
  } else if (message.has_finish_info()) {
    Json finish = {{"index", message.finish_info().index()}};
    AddFinish(message.finish_info(), &finish);
    finish["usage"] = UsageJson(message.finish_info().usage());
    json["finish_info"] = std::move(finish);
  }
  return Dump(json);
}

}  // namespace mili

#include "router/api/http/json_spec.h"

#include <charconv>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/wire/status_wire.h"
#include "router/api/http/json_fields.h"

namespace mili::router {
namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

absl::Status CheckUnknown(const JsonFields& fields, bool strict,
                          std::vector<std::string>* ignored) {
  MILI_RETURN_IF_ERROR(fields.status());
  *ignored = fields.Unknown();
  if (strict && !ignored->empty()) {
    return BadField(ignored->front(), "is no field of this endpoint (strict=1)");
  }
  return absl::OkStatus();
}

// string | string[] | int[] | int[][]
void ReadPrompt(JsonFields& fields, std::vector<Prompt>* prompts) {
  const InputJson* prompt = fields.Get("prompt");
  if (prompt == nullptr) return;
  if (prompt->is_string()) {
    prompts->emplace_back(prompt->get<std::string>());
    return;
  }
  if (!prompt->is_array()) {
    return fields.Complain(
        "prompt", "must be text, token ids, or an array of either, found " + Shorten(*prompt));
  }
  if (!prompt->empty() && prompt->front().is_number()) {
    std::vector<TokenId> ids;
    if (fields.TokenIds("prompt", *prompt, &ids)) prompts->emplace_back(std::move(ids));
    return;
  }
  for (const InputJson& item : *prompt) {
    if (item.is_string()) {
      prompts->emplace_back(item.get<std::string>());
      continue;
    }
    std::vector<TokenId> ids;
    if (!item.is_array()) {
      return fields.Complain("prompt",
                             "must be text, token ids, or an array of either, found in "
                             "it " +
                                 Shorten(item));
    }
    if (!fields.TokenIds("prompt", item, &ids)) return;
    prompts->emplace_back(std::move(ids));
  }
}

void ReadStop(JsonFields& fields, std::vector<std::string>* stop) {
  const InputJson* value = fields.Get("stop");
  if (value == nullptr) return;
  if (value->is_string()) {
    stop->push_back(value->get<std::string>());
    return;
  }
  if (!value->is_array()) {
    return fields.Complain("stop",
                           "must be a string or an array of strings, found " + Shorten(*value));
  }
  for (const InputJson& item : *value) {
    if (!item.is_string()) {
      return fields.Complain("stop", "must be an array of strings, found in it " + Shorten(item));
    }
    stop->push_back(item.get<std::string>());
  }
}

void ReadLogitBias(JsonFields& fields, std::vector<std::pair<int64_t, double>>* bias) {
  const InputJson* value = fields.Get("logit_bias");
  if (value == nullptr) return;
  if (!value->is_object()) {
    return fields.Complain("logit_bias",
                           "must be an object of token id to number, found " + Shorten(*value));
  }
  for (const auto& [key, number] : value->items()) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      return fields.Complain("logit_bias",
                             "keys must be token ids, found " + Shorten(InputJson(key)));
    }
    if (!number.is_number()) {
      return fields.Complain("logit_bias", "values must be numbers, found " + Shorten(number));
    }
    bias->emplace_back(id, number.get<double>());
  }
}

// Fields that ask for constrained output; Validate says that there is none yet.
void ReadConstraint(JsonFields& fields, std::string* constraint) {
  for (const char* name :
       {"structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"}) {
    if (fields.Get(name) != nullptr) *constraint = name;
  }
  const InputJson* format = fields.Get("response_format");
  if (format == nullptr) return;
  if (!format->is_object() || !format->contains("type")) {
    return fields.Complain("response_format", "must be an object with a type");
  }
  if ((*format)["type"] != "text") *constraint = "response_format";
}

void ReadSampling(JsonFields& fields, GenerateSpec* spec) {
  fields.String("model", &spec->model);
  fields.String("request_id", &spec->request_id);
  fields.Number("temperature", &spec->temperature);
  fields.Number("top_p", &spec->top_p);
  fields.Integer("top_k", &spec->top_k);
  fields.Number("min_p", &spec->min_p);
  fields.Integer("seed", &spec->seed);
  fields.Integer("max_tokens", &spec->max_tokens);
  fields.Integer("min_tokens", &spec->min_tokens);
  ReadStop(fields, &spec->stop);
  fields.Integers("stop_token_ids", &spec->stop_token_ids);
  fields.Bool("ignore_eos", &spec->ignore_eos);
  fields.Bool("include_stop_str_in_output", &spec->include_stop_str_in_output);
  fields.Number("presence_penalty", &spec->presence_penalty);
  fields.Number("frequency_penalty", &spec->frequency_penalty);
  fields.Number("repetition_penalty", &spec->repetition_penalty);
  ReadLogitBias(fields, &spec->logit_bias);
  fields.Bool("skip_special_tokens", &spec->skip_special_tokens);
  fields.Bool("add_special_tokens", &spec->add_special_tokens);
  std::optional<int64_t> priority;
  fields.Integer("priority", &priority);
  spec->priority = priority.value_or(0);
  fields.String("cache_salt", &spec->cache_salt);
  ReadConstraint(fields, &spec->constraint);
}

absl::Status ReadStreamOptions(JsonFields& fields, CompletionBody* out) {
  const InputJson* options = fields.Get("stream_options");
  if (options == nullptr) return absl::OkStatus();
  if (!options->is_object()) {
    return BadField("stream_options", "must be an object, found " + Shorten(*options));
  }
  if (!out->spec.stream) return BadField("stream_options", "is legal only with stream: true");
  JsonFields inner(*options, "stream_options.");
  inner.Bool("include_usage", &out->include_usage);
  return inner.status();
}

absl::Status ReadCompletionsOnly(JsonFields& fields, CompletionBody* out) {
  GenerateSpec& spec = out->spec;
  fields.Integer("n", &spec.n);
  fields.Integer("logprobs", &spec.logprobs);
  fields.Integer("prompt_logprobs", &spec.prompt_logprobs);
  fields.Bool("echo", &spec.echo);
  fields.Bool("stream", &spec.stream);
  fields.Bool("return_token_ids", &spec.return_token_ids);
  fields.Bool("return_tokens_as_token_ids", &out->tokens_as_token_ids);
  out->want_prompt_logprobs = spec.prompt_logprobs.has_value();
  std::string suffix;
  fields.String("suffix", &suffix);
  if (!suffix.empty()) return BadField("suffix", "is not supported; leave it out");
  std::optional<int64_t> best_of;
  fields.Integer("best_of", &best_of);
  if (best_of.has_value() && *best_of != spec.n.value_or(1)) {
    return BadField("best_of", "other than n is not supported; leave it out");
  }
  return ReadStreamOptions(fields, out);
}

}  // namespace

absl::StatusOr<HttpTarget> ParseTarget(std::string_view target) {
  if (target.empty() || target.front() != '/') {
    return absl::InvalidArgumentError("the request target must be a path");
  }
  const size_t question = target.find('?');
  HttpTarget parsed;
  const std::string_view path = target.substr(0, question);
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '%') {
      parsed.path += path[i];
      continue;
    }
    const int high = i + 2 < path.size() ? HexValue(path[i + 1]) : -1;
    const int low = i + 2 < path.size() ? HexValue(path[i + 2]) : -1;
    if (high < 0 || low < 0) return absl::InvalidArgumentError("a broken % escape in the path");
    parsed.path += static_cast<char>(high * 16 + low);
    i += 2;
  }
  if (question == std::string_view::npos) return parsed;
  std::string_view query = target.substr(question + 1);
  while (!query.empty()) {
    const size_t end = query.find('&');
    if (query.substr(0, end) == "strict=1") parsed.strict = true;
    query = end == std::string_view::npos ? "" : query.substr(end + 1);
  }
  return parsed;
}

absl::StatusOr<CompletionBody> ParseCompletion(std::string_view body, Endpoint endpoint,
                                               bool strict) {
  MILI_ASSIGN_OR_RETURN(const InputJson json, ParseObject(body));
  CompletionBody out;
  out.spec.endpoint = endpoint;
  JsonFields fields(json);
  ReadPrompt(fields, &out.spec.prompts);
  ReadSampling(fields, &out.spec);
  MILI_RETURN_IF_ERROR(fields.status());
  if (endpoint == Endpoint::kCompletions) {
    MILI_RETURN_IF_ERROR(ReadCompletionsOnly(fields, &out));
  } else {
    bool stream = false;
    fields.Bool("stream", &stream);
    if (stream) return BadField("stream", "is not supported here; use /v1/completions");
    out.spec.return_token_ids = true;
    if (out.spec.prompts.size() > 1) return BadField("prompt", "must be one prompt");
  }
  MILI_RETURN_IF_ERROR(CheckUnknown(fields, strict, &out.ignored));
  return out;
}

absl::StatusOr<TokenizeBody> ParseTokenize(std::string_view body, bool strict) {
  MILI_ASSIGN_OR_RETURN(const InputJson json, ParseObject(body));
  TokenizeBody out;
  JsonFields fields(json);
  fields.String("model", &out.job.model);
  fields.Bool("add_special_tokens", &out.job.add_special_tokens);
  fields.Bool("return_token_strs", &out.job.return_token_strs);
  ChatPrompt chat;
  fields.Bool("add_generation_prompt", &chat.add_generation_prompt);
  const InputJson* prompt = fields.Get("prompt");
  const InputJson* messages = fields.Get("messages");
  if ((prompt == nullptr) == (messages == nullptr)) {
    return BadField("prompt", "exactly one of prompt and messages is needed");
  }
  if (prompt != nullptr) {
    std::string text;
    fields.String("prompt", &text);
    out.job.input = std::move(text);
  } else if (!messages->is_array()) {
    fields.Complain("messages", "must be an array, found " + Shorten(*messages));
  } else {
    for (const InputJson& message : *messages) {
      if (!message.is_object()) {
        return BadField("messages", "must be an array of objects, found in it " + Shorten(message));
      }
      JsonFields turn(message, "messages.");
      ChatTurn& to = chat.turns.emplace_back();
      turn.String("role", &to.role);
      turn.String("content", &to.content);
      MILI_RETURN_IF_ERROR(turn.status());
      if (to.role.empty()) return BadField("messages.role", "is missing");
    }
    out.job.input = std::move(chat);
  }
  MILI_RETURN_IF_ERROR(CheckUnknown(fields, strict, &out.ignored));
  return out;
}

absl::StatusOr<DetokenizeBody> ParseDetokenize(std::string_view body, bool strict) {
  MILI_ASSIGN_OR_RETURN(const InputJson json, ParseObject(body));
  DetokenizeBody out;
  JsonFields fields(json);
  fields.String("model", &out.job.model);
  fields.Bool("skip_special_tokens", &out.job.skip_special_tokens);
  const InputJson* tokens = fields.Get("tokens");
  if (tokens == nullptr) return BadField("tokens", "is missing");
  if (!tokens->is_array()) return BadField("tokens", "must be an array, found " + Shorten(*tokens));
  fields.TokenIds("tokens", *tokens, &out.job.token_ids);
  MILI_RETURN_IF_ERROR(CheckUnknown(fields, strict, &out.ignored));
  return out;
}

}  // namespace mili::router

#include "router/api/validate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/wire/status_wire.h"

namespace mili::router {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr size_t kMaxPrompts = 1024;
constexpr int64_t kMaxChoices = 128;
constexpr int64_t kMaxChoicesPerCall = 4096;
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 1024;
constexpr size_t kMaxListEntries = 4096;
constexpr size_t kMaxTurns = 4096;
constexpr size_t kMaxSaltBytes = 1024;
constexpr int64_t kMaxU32 = std::numeric_limits<uint32_t>::max();

// `range` is said in the error. NaN fails every comparison and with it the check.
absl::StatusOr<float> InRange(std::optional<double> asked, std::optional<double> endpoint_default,
                              std::optional<double> model_default, double neutral,
                              const char* field, double min, double max, const char* range) {
  if (!asked.has_value()) {
    return static_cast<float>(endpoint_default.value_or(model_default.value_or(neutral)));
  }
  if (!(*asked >= min && *asked <= max)) {
    return BadField(field, absl::StrCat("must be ", range, ", found ", *asked));
  }
  return static_cast<float>(*asked);
}

absl::StatusOr<int64_t> IntInRange(std::optional<int64_t> asked, int64_t fallback,
                                   const char* field, int64_t min, int64_t max) {
  const int64_t value = asked.value_or(fallback);
  if (value < min || value > max) {
    return BadField(field, absl::StrCat("must be ", min, " to ", max, ", found ", value));
  }
  return value;
}

struct EndpointDefaults {
  std::optional<double> temperature = {};
  std::optional<double> top_p = {};
  std::optional<int64_t> top_k = {};
  std::optional<int64_t> max_tokens = {};
};

EndpointDefaults DefaultsOf(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::kGrpc:
      return {};
    case Endpoint::kCompletions:
      return {.max_tokens = 16};
    case Endpoint::kGenerate:
      return {.temperature = 1.0, .top_p = 0.95, .top_k = 50, .max_tokens = 50};
  }
  return {};
}

absl::Status CheckPrompts(const GenerateSpec& spec, const ServedModel& model) {
  if (spec.prompts.empty()) return BadField("prompt", "is missing; send text or token ids");
  if (spec.prompts.size() > kMaxPrompts) {
    return BadField("prompt", absl::StrCat("at most ", kMaxPrompts, " prompts a call, found ",
                                           spec.prompts.size()));
  }
  for (const Prompt& prompt : spec.prompts) {
    if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) {
      if (ids->empty()) return BadField("prompt", "is empty; at least one token is needed");
      MILI_RETURN_IF_ERROR(CheckTokenIds(*ids, model, "prompt"));
      continue;
    }
    if (model.tokenizer == nullptr) {
      return BadField("prompt", "this model comes without a tokenizer; send token ids");
    }
    const auto* chat = std::get_if<ChatPrompt>(&prompt);
    if (chat == nullptr) continue;
    if (model.encode_chat == nullptr) {
      return BadField("messages", "this model comes without a chat template; send text");
    }
    if (chat->turns.empty() || chat->turns.size() > kMaxTurns) {
      return BadField("messages", absl::StrCat("must be 1 to ", kMaxTurns, " turns, found ",
                                               chat->turns.size()));
    }
    for (const ChatTurn& turn : chat->turns) {
      if (turn.role.empty()) return BadField("messages.role", "is empty");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckNames(const GenerateSpec& spec, const ServedModel& model) {
  MILI_RETURN_IF_ERROR(CheckModelName(spec.model, model));
  if (spec.request_id.size() > kMaxRequestIdBytes) {
    return BadField("request_id", absl::StrCat("at most ", kMaxRequestIdBytes, " bytes, found ",
                                               spec.request_id.size()));
  }
  if (spec.cache_salt.size() > kMaxSaltBytes) {
    return BadField("cache_salt", absl::StrCat("at most ", kMaxSaltBytes, " bytes, found ",
                                               spec.cache_salt.size()));
  }
  if (!spec.constraint.empty()) {
    return WithReason(absl::UnimplementedError(absl::StrCat(
                          spec.constraint, ": constrained output is not supported yet; leave ",
                          spec.constraint, " out")),
                      "CONSTRAINT_UNSUPPORTED", {{"field", spec.constraint}});
  }
  return absl::OkStatus();
}

absl::Status ReadSampling(const GenerateSpec& spec, const ServedModel& model, ValidSpec* valid) {
  const EndpointDefaults endpoint = DefaultsOf(spec.endpoint);
  const SamplingDefaults& defaults = model.defaults;
  SamplingParams& s = valid->sampling;
  const double tiny = std::numeric_limits<float>::min();
  const double big = std::numeric_limits<float>::max();
  MILI_ASSIGN_OR_RETURN(s.temperature,
                        InRange(spec.temperature, endpoint.temperature, defaults.temperature, 1,
                                "temperature", 0, 100, "0 to 100 (0 is greedy)"));
  MILI_ASSIGN_OR_RETURN(s.top_p, InRange(spec.top_p, endpoint.top_p, defaults.top_p, 1, "top_p",
                                         tiny, 1, "greater than 0 and at most 1"));
  MILI_ASSIGN_OR_RETURN(
      s.min_p, InRange(spec.min_p, std::nullopt, defaults.min_p, 0, "min_p", 0, 1, "0 to 1"));
  MILI_ASSIGN_OR_RETURN(s.presence_penalty,
                        InRange(spec.presence_penalty, std::nullopt, std::nullopt, 0,
                                "presence_penalty", -2, 2, "-2 to 2"));
  MILI_ASSIGN_OR_RETURN(s.frequency_penalty,
                        InRange(spec.frequency_penalty, std::nullopt, std::nullopt, 0,
                                "frequency_penalty", -2, 2, "-2 to 2"));
  MILI_ASSIGN_OR_RETURN(s.repetition_penalty,
                        InRange(spec.repetition_penalty, std::nullopt, defaults.repetition_penalty,
                                1, "repetition_penalty", tiny, big, "greater than 0 (1 is off)"));
  // A top_k beyond the vocabulary keeps all, and says so by its value: no clamp changes the result.
  MILI_ASSIGN_OR_RETURN(const int64_t top_k,
                        IntInRange(spec.top_k, endpoint.top_k.value_or(defaults.top_k.value_or(0)),
                                   "top_k", -1, std::numeric_limits<int32_t>::max()));
  s.top_k = top_k <= 0 ? 0 : static_cast<uint32_t>(top_k);
  return absl::OkStatus();
}

absl::Status ReadLogitBias(const GenerateSpec& spec, const ServedModel& model, ValidSpec* valid) {
  if (spec.logit_bias.size() > kMaxListEntries) {
    return BadField("logit_bias", absl::StrCat("at most ", kMaxListEntries, " entries, found ",
                                               spec.logit_bias.size()));
  }
  for (const auto& [id, bias] : spec.logit_bias) {
    if (id < 0 || id >= model.facts.vocab_size) {
      return BadField("logit_bias", absl::StrCat("token id ", id, " is not in the vocabulary of ",
                                                 model.facts.vocab_size));
    }
    if (!(bias >= -100 && bias <= 100)) {
      return BadField("logit_bias",
                      absl::StrCat("must be -100 to 100, found ", bias, " for token ", id));
    }
    valid->sampling.logit_bias.push_back({static_cast<TokenId>(id), static_cast<float>(bias)});
  }
  std::sort(valid->sampling.logit_bias.begin(), valid->sampling.logit_bias.end(),
            [](const LogitBias& a, const LogitBias& b) { return a.token_id < b.token_id; });
  return absl::OkStatus();
}

absl::Status ReadStops(const GenerateSpec& spec, const ServedModel& model, ValidSpec* valid) {
  if (spec.stop.size() > kMaxStops) {
    return BadField("stop",
                    absl::StrCat("at most ", kMaxStops, " strings, found ", spec.stop.size()));
  }
  for (const std::string& stop : spec.stop) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return BadField("stop", absl::StrCat("each string must be 1 to ", kMaxStopBytes,
                                           " bytes, found ", stop.size()));
    }
  }
  if (!spec.stop.empty() && model.tokenizer == nullptr) {
    return BadField("stop", "this model comes without a tokenizer; use stop_token_ids");
  }
  if (spec.stop_token_ids.size() > kMaxListEntries) {
    return BadField("stop_token_ids", absl::StrCat("at most ", kMaxListEntries, " ids, found ",
                                                   spec.stop_token_ids.size()));
  }
  for (const int64_t id : spec.stop_token_ids) {
    if (id < 0 || id >= model.facts.vocab_size) {
      return BadField("stop_token_ids", absl::StrCat("token id ", id, " is not in the vocabulary ",
                                                     "of ", model.facts.vocab_size));
    }
    valid->stop_token_ids.push_back(static_cast<TokenId>(id));
  }
  if (!spec.ignore_eos) {
    const auto& eos = model.facts.eos_token_ids;
    valid->stop_token_ids.insert(valid->stop_token_ids.end(), eos.begin(), eos.end());
  }
  auto& ids = valid->stop_token_ids;
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return absl::OkStatus();
}

absl::Status ReadCounts(const GenerateSpec& spec, const ServedModel& model,
                        const RequestLimits& limits, ValidSpec* valid) {
  SamplingParams& s = valid->sampling;
  MILI_ASSIGN_OR_RETURN(const int64_t n, IntInRange(spec.n, 1, "n", 1, kMaxChoices));
  if (n * static_cast<int64_t>(spec.prompts.size()) > kMaxChoicesPerCall) {
    return BadField(
        "n", absl::StrCat("n times the number of prompts must be at most ", kMaxChoicesPerCall,
                          ", found ", n, " x ", spec.prompts.size()));
  }
  valid->num_choices = static_cast<uint32_t>(n);
  for (const auto& [field, asked, to] :
       {std::tuple{"logprobs", &spec.logprobs, &s.num_logprobs},
        std::tuple{"prompt_logprobs", &spec.prompt_logprobs, &s.num_prompt_logprobs}}) {
    if (!asked->has_value()) continue;
    MILI_ASSIGN_OR_RETURN(const int64_t count,
                          IntInRange(*asked, 0, field, 0, int64_t{limits.max_logprobs}));
    *to = static_cast<uint32_t>(count);
  }
  if (spec.echo && s.num_logprobs.has_value() && !s.num_prompt_logprobs.has_value()) {
    s.num_prompt_logprobs = s.num_logprobs;  // echoed tokens are scored like the others
  }
  const auto asked_max =
      spec.max_tokens.has_value() ? spec.max_tokens : DefaultsOf(spec.endpoint).max_tokens;
  if (asked_max.has_value()) {
    MILI_ASSIGN_OR_RETURN(const int64_t max_tokens,
                          IntInRange(asked_max, 0, "max_tokens", 0, kMaxU32));
    if (max_tokens == 0 && !spec.echo && !s.num_prompt_logprobs.has_value()) {
      return BadField("max_tokens", spec.endpoint == Endpoint::kCompletions
                                        ? "0 is legal only with echo; send 1 or more"
                                        : "0 is legal only with prompt_logprobs; send 1 or more");
    }
    // The engine computes a prompt that nothing follows only to score it.
    if (max_tokens == 0 && !s.num_prompt_logprobs.has_value()) s.num_prompt_logprobs = 0;
    valid->max_tokens = static_cast<uint32_t>(max_tokens);
  }
  MILI_ASSIGN_OR_RETURN(const int64_t min_tokens,
                        IntInRange(spec.min_tokens, 0, "min_tokens", 0, kMaxU32));
  const int64_t most = valid->max_tokens.value_or(model.facts.max_model_len);
  if (min_tokens > most) {
    return BadField("min_tokens",
                    absl::StrCat("must be at most max_tokens (", most, "), found ", min_tokens));
  }
  s.min_tokens = static_cast<uint32_t>(min_tokens);
  if (s.min_tokens > 0) s.banned_token_ids = valid->stop_token_ids;
  MILI_ASSIGN_OR_RETURN(const int64_t priority, IntInRange(spec.priority, 0, "priority",
                                                           std::numeric_limits<int32_t>::min(),
                                                           std::numeric_limits<int32_t>::max()));
  valid->priority = static_cast<int32_t>(priority);
  return absl::OkStatus();
}

}  // namespace

uint64_t ValidSpec::PromptBytes() const {
  uint64_t bytes = 0;
  for (const Prompt& prompt : prompts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) bytes += text->size();
    // An id stands for about four bytes of text, and takes four.
    if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) bytes += 4 * ids->size();
    if (const auto* chat = std::get_if<ChatPrompt>(&prompt)) {
      for (const ChatTurn& turn : chat->turns) bytes += turn.role.size() + turn.content.size();
    }
  }
  return bytes;
}

absl::Status CheckModelName(std::string_view name, const ServedModel& model) {
  if (name.empty() || name == model.name) return absl::OkStatus();
  return WithReason(
      absl::NotFoundError(absl::StrCat("model \"", ToAbsl(name.substr(0, 256)),
                                       "\" is not served here; served: ", model.name)),
      kModelNotFound, {{"field", "model"}});
}

absl::Status CheckTokenIds(const std::vector<TokenId>& ids, const ServedModel& model,
                           std::string_view field) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < model.facts.vocab_size) continue;
    return BadField(field, absl::StrCat("token id ", ids[i], " at place ", i,
                                        " is not in the vocabulary of ", model.facts.vocab_size));
  }
  return absl::OkStatus();
}

absl::StatusOr<ValidSpec> Validate(GenerateSpec spec, const ServedModel& model,
                                   const RequestLimits& limits, uint64_t seed, absl::Time now) {
  ValidSpec valid;
  MILI_RETURN_IF_ERROR(CheckNames(spec, model));
  MILI_RETURN_IF_ERROR(CheckPrompts(spec, model));
  MILI_RETURN_IF_ERROR(ReadSampling(spec, model, &valid));
  MILI_RETURN_IF_ERROR(ReadLogitBias(spec, model, &valid));
  MILI_RETURN_IF_ERROR(ReadStops(spec, model, &valid));
  MILI_RETURN_IF_ERROR(ReadCounts(spec, model, limits, &valid));
  if (spec.endpoint == Endpoint::kCompletions && spec.stream && spec.prompt_logprobs.has_value()) {
    return BadField("prompt_logprobs", "cannot be streamed; leave stream or prompt_logprobs out");
  }
  if (spec.echo && model.tokenizer == nullptr) {
    return BadField("echo", "this model comes without a tokenizer, so there is no text to echo");
  }
  valid.sampling.seed = spec.seed.has_value() ? static_cast<uint64_t>(*spec.seed) : seed;
  valid.request_id = std::move(spec.request_id);
  valid.prompts = std::move(spec.prompts);
  valid.stop = std::move(spec.stop);
  valid.include_stop_str_in_output = spec.include_stop_str_in_output;
  valid.skip_special_tokens = spec.skip_special_tokens.value_or(true);
  valid.add_special_tokens = spec.add_special_tokens;
  valid.cache_salt = std::move(spec.cache_salt);
  // Without a tokenizer ids are the only answer there is.
  valid.return_token_ids = spec.return_token_ids || model.tokenizer == nullptr;
  valid.echo = spec.echo;
  valid.stream = spec.stream;
  valid.arrival = now;
  valid.deadline = std::min(spec.deadline, now + limits.request_timeout);
  valid.queue_deadline = now + limits.queue_timeout;
  return valid;
}

absl::StatusOr<uint32_t> ResolveMaxTokens(const ValidSpec& spec, uint32_t num_prompt_tokens,
                                          const ServedModel& model, const RequestLimits& limits) {
  if (num_prompt_tokens == 0) {
    return BadField("prompt", "is empty; at least one token is needed");
  }
  const uint64_t context = model.facts.max_model_len;
  // With nothing named there must be room for one token at least.
  const uint64_t wanted = spec.max_tokens.value_or(1);
  if (num_prompt_tokens + wanted > context) {
    const std::string asked =
        spec.max_tokens.has_value() ? absl::StrCat(wanted) : absl::StrCat("at least ", wanted);
    return WithReason(
        BadField("prompt",
                 absl::StrCat("this model's maximum context length is ", context,
                              " tokens; the prompt has ", num_prompt_tokens, " tokens and ", asked,
                              " are asked for; shorten the prompt or lower max_tokens")),
        kContextLengthExceeded,
        {{"max_model_len", absl::StrCat(context)},
         {"prompt_tokens", absl::StrCat(num_prompt_tokens)},
         {"max_tokens", absl::StrCat(wanted)}});
  }
  if (spec.max_tokens.has_value()) return *spec.max_tokens;
  const uint32_t cap = std::max({limits.default_max_tokens, spec.sampling.min_tokens, 1u});
  return static_cast<uint32_t>(std::min<uint64_t>(context - num_prompt_tokens, cap));
}

}  // namespace mili::router

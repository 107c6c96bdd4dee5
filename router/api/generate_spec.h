// GenerateSpec: what a client asked for, in one form for every API, before defaults and checks.
// Filled from protobuf (pb_spec.h) and from JSON (http/json_spec.h); validate.h turns it into a
// ValidSpec. Plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <absl/time/time.h>

#include "common/base/ids.h"

namespace mili::router {

// Which defaults apply.
enum class Endpoint { kGrpc, kCompletions, kGenerate };

struct ChatTurn {
  std::string role;
  std::string content;
};

struct ChatPrompt {
  std::vector<ChatTurn> turns;  // oldest first
  bool add_generation_prompt = true;
  std::optional<bool> enable_thinking;
};

using Prompt = std::variant<std::string, std::vector<TokenId>, ChatPrompt>;

// Numbers are as wide as JSON and protobuf can state them, so that ranges are checked in one place.
struct GenerateSpec {
  Endpoint endpoint = Endpoint::kGrpc;
  std::string request_id;
  std::string model;
  std::vector<Prompt> prompts;  // more than one: a batch, one choice set each
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  std::optional<double> min_p;
  std::optional<int64_t> seed;
  std::optional<int64_t> n;
  std::optional<int64_t> max_tokens;
  std::optional<int64_t> min_tokens;
  std::vector<std::string> stop;
  std::vector<int64_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop_str_in_output = false;
  std::optional<double> presence_penalty;
  std::optional<double> frequency_penalty;
  std::optional<double> repetition_penalty;
  std::vector<std::pair<int64_t, double>> logit_bias;
  std::optional<int64_t> logprobs;
  std::optional<int64_t> prompt_logprobs;
  std::optional<bool> skip_special_tokens;
  std::optional<bool> add_special_tokens;
  int64_t priority = 0;
  std::string cache_salt;
  std::string constraint;  // the field that asks for one; empty: none
  bool return_token_ids = false;
  bool echo = false;
  bool stream = false;
  // Of the call itself (gRPC); the server's own timeouts come on top.
  absl::Time deadline = absl::InfiniteFuture();
};

}  // namespace mili::router

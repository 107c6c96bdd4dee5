// Tokenize and Detokenize for every API: checked on the caller's thread, done on the text pool.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "router/api/frontend.h"

namespace mili::router {

struct TokenizeJob {
  std::string model;
  Prompt input;
  std::optional<bool> add_special_tokens;
  bool return_token_strs = false;
};
struct TokenizeOutcome {
  std::vector<TokenId> token_ids;
  std::vector<std::string> token_strs;
  uint32_t max_model_len = 0;
};

struct DetokenizeJob {
  std::string model;
  std::vector<TokenId> token_ids;
  bool skip_special_tokens = false;
};

// `done` is called once: at once with an error, or on the text pool.
void Tokenize(Frontend* frontend, TokenizeJob job,
              std::function<void(absl::StatusOr<TokenizeOutcome>)> done);
void Detokenize(Frontend* frontend, DetokenizeJob job,
                std::function<void(absl::StatusOr<std::string>)> done);

}  // namespace mili::router

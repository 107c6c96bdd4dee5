// Foreign bytes of an HTTP request -> what is asked for. Pure functions that any thread and any
// fuzzer may call: the target's path and query, and JSON bodies under limits of size and depth.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "router/api/generate_spec.h"
#include "router/api/text_service.h"

namespace mili::router {

inline constexpr size_t kMaxBodyBytes = 8 * 1024 * 1024;
inline constexpr size_t kMaxJsonDepth = 32;

struct HttpTarget {
  std::string path;     // percent-decoded
  bool strict = false;  // ?strict=1: unknown fields are errors
};
// INVALID_ARGUMENT: no path, or a broken escape.
absl::StatusOr<HttpTarget> ParseTarget(std::string_view target);

// A body of /v1/completions or /generate.
struct CompletionBody {
  GenerateSpec spec;
  bool include_usage = false;
  bool tokens_as_token_ids = false;
  bool want_prompt_logprobs = false;
  std::vector<std::string> ignored;  // fields that nothing here knows
};
// INVALID_ARGUMENT names the field; with `strict` unknown fields too. Ranges are Validate's.
absl::StatusOr<CompletionBody> ParseCompletion(std::string_view body, Endpoint endpoint,
                                               bool strict);

struct TokenizeBody {
  TokenizeJob job;
  std::vector<std::string> ignored;
};
absl::StatusOr<TokenizeBody> ParseTokenize(std::string_view body, bool strict);

struct DetokenizeBody {
  DetokenizeJob job;
  std::vector<std::string> ignored;
};
absl::StatusOr<DetokenizeBody> ParseDetokenize(std::string_view body, bool strict);

}  // namespace mili::router

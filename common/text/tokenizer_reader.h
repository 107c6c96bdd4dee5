// The first pass over tokenizer.json: vocabulary and merges go straight into flat tables, so that
// 300,000 of each need no tree of JSON values; the small rest becomes one. For tokenizer_json.cc
// alone.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>
#include <nlohmann/json_fwd.hpp>

#include "common/text/pair_ranks.h"
#include "common/text/vocabulary.h"

namespace mili::text {

struct RawTokenizer {
  std::unique_ptr<Vocabulary> vocabulary;        // finished; null: model.vocab is missing
  std::optional<LargeVector<MergeRule>> merges;  // none: model.merges or model.vocab is missing
  // Everything else that is known, `model` without the two.
  std::unique_ptr<nlohmann::json> parts;
};

// INVALID_ARGUMENT for what is no JSON, or no vocabulary or list of merges.
absl::StatusOr<RawTokenizer> ReadRawTokenizer(std::string_view json);

}  // namespace mili::text

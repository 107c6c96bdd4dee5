// The first pass over tokenizer.json: vocabulary and merges go straight into flat arrays, so that
// 300,000 of each need no tree of JSON values; the small rest becomes one. For tokenizer_json.cc
// alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>
#include <nlohmann/json_fwd.hpp>

#include "common/text/vocabulary.h"

namespace mili::text {

// The list `model.merges`, in the form of either age: "a b", or ["a", "b"].
class MergeList {
 public:
  struct Merge {
    std::string_view left;
    std::string_view right;
  };

  absl::Status AddLine(std::string_view line);
  void AddPair(std::string_view left, std::string_view right);
  size_t size() const { return ends_.size() / 2; }
  Merge at(size_t rank) const;

 private:
  std::string text_;            // all parts in order
  std::vector<uint64_t> ends_;  // of each part in text_
};

struct RawTokenizer {
  std::unique_ptr<Vocabulary> vocabulary;  // null: model.vocab is missing
  std::unique_ptr<MergeList> merges;       // null: model.merges is missing
  // Everything else that is known, `model` without the two.
  std::unique_ptr<nlohmann::json> parts;
};

absl::StatusOr<RawTokenizer> ReadRawTokenizer(std::string_view json);

}  // namespace mili::text

// Reads the list `model.merges` of tokenizer.json into rules between ids. For tokenizer_reader.cc
// alone; on the stack of one call.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>

#include "common/text/json_cursor.h"
#include "common/text/pair_ranks.h"
#include "common/text/vocabulary.h"

namespace mili::text {

class MergeReader {
 public:
  // Borrows both.
  MergeReader(const Vocabulary& vocabulary, std::vector<MergeRule>& rules)
      : vocabulary_(vocabulary), rules_(rules) {}

  // One entry, in the form of either age: "a b", or ["a", "b"]. INVALID_ARGUMENT, naming it.
  absl::Status Read(JsonCursor& json);

 private:
  absl::Status AddLine(std::string_view line);
  absl::Status Add(std::string_view left, std::string_view right);
  absl::Status Missing(std::string_view token) const;
  absl::Status Refuse(const std::string& why) const;

  const Vocabulary& vocabulary_;
  std::vector<MergeRule>& rules_;
  std::string left_;
  std::string merged_;
};

}  // namespace mili::text

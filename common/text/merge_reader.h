// Reads the list `model.merges` of tokenizer.json into rules between ids. For tokenizer_reader.cc
// alone; on the stack of one call.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "common/text/json_cursor.h"
#include "common/text/pair_ranks.h"
#include "common/text/vocabulary.h"

namespace mili::text {

class MergeReader {
 public:
  // Borrows both.
  MergeReader(const Vocabulary& vocabulary, LargeVector<MergeRule>& rules)
      : vocabulary_(vocabulary), rules_(rules) {
    rules_.reserve(vocabulary.size());
  }

  // One entry, in the form of either age: "a b", or ["a", "b"]. INVALID_ARGUMENT, naming it; it may
  // be found out some entries later.
  absl::Status Read(JsonCursor& json);
  // Behind the last entry.
  absl::Status Finish();

 private:
  // An entry whose tokens are being fetched while others are read.
  struct Waiting {
    std::string_view left;
    std::string_view right;
    uint32_t left_hash;
    uint32_t right_hash;
  };
  static constexpr size_t kMaxWaiting = 16;

  absl::Status AddLine(const JsonCursor& json, std::string_view line);
  // `lasts`: the two stay where they are.
  absl::Status Add(std::string_view left, std::string_view right, bool lasts);
  absl::Status Resolve(const Waiting& entry);
  absl::Status Missing(std::string_view token) const;
  absl::Status Refuse(size_t index, const std::string& why) const;
  size_t num_read() const { return rules_.size() + num_waiting_; }

  const Vocabulary& vocabulary_;
  LargeVector<MergeRule>& rules_;
  std::array<Waiting, kMaxWaiting> waiting_;
  size_t num_waiting_ = 0;
  std::string left_;
  std::string merged_;
};

}  // namespace mili::text

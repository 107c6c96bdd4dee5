// The vocabulary of a BPE model: spellings in the byte-level alphabet, both ways. Filled once, then
// immutable and readable from any thread. Knows nothing of added tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include "common/base/ids.h"

namespace mili::text {

class Vocabulary {
 public:
  // Ids are below this, so that a hostile file cannot make the tables large; vocabularies in use
  // end near 300,000.
  static constexpr TokenId kMaxIds = 1u << 22;

  // Neither copied nor moved: the index points into the spellings.
  Vocabulary() = default;
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  // INVALID_ARGUMENT if the id is out of range or the spellings exceed 4 GiB.
  absl::Status Add(std::string_view spelling, uint64_t id);
  // After the last Add. INVALID_ARGUMENT if two tokens share an id or a spelling.
  absl::Status Finish();

  size_t size() const { return index_.size(); }
  // Of all spellings together.
  size_t size_bytes() const { return spellings_.size(); }
  // One more than the largest id.
  TokenId end_id() const { return static_cast<TokenId>(by_id_.size()); }
  std::optional<TokenId> Find(std::string_view spelling) const;
  bool Contains(TokenId id) const { return id < by_id_.size() && by_id_[id].size != kNoToken; }
  // Empty if there is no such token.
  std::string_view SpellingOf(TokenId id) const;

 private:
  static constexpr uint32_t kNoToken = UINT32_MAX;
  struct Entry {
    uint32_t offset = 0;
    uint32_t size = kNoToken;
    TokenId id = 0;
  };

  std::string spellings_;
  std::vector<Entry> added_;  // in order of the file; empty once finished
  std::vector<Entry> by_id_;
  absl::flat_hash_map<absl::string_view, TokenId> index_;
};

}  // namespace mili::text

// The vocabulary of a BPE model: spellings in the byte-level alphabet, both ways. Filled once, then
// immutable and readable from any thread. Knows nothing of added tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "common/base/ids.h"
#include "common/text/large_vector.h"

namespace mili::text {

class Vocabulary {
 public:
  // Ids are below this, so that a hostile file cannot make the tables large; vocabularies in use
  // end near 300,000.
  static constexpr TokenId kMaxIds = 1u << 22;

  // INVALID_ARGUMENT if the id is out of range or the spellings exceed 4 GiB.
  absl::Status Add(std::string_view spelling, uint64_t id);
  // After the last Add. INVALID_ARGUMENT if two tokens share an id or a spelling.
  absl::Status Finish();

  size_t size() const { return size_; }
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
  };
  struct Added {
    Entry entry;
    TokenId id;
    uint32_t hash;
  };
  struct Slot {
    uint32_t hash = 0;
    TokenId id = kNoToken;  // kNoToken: empty
  };

  std::string_view Spelling(Entry entry) const { return {&spellings_[entry.offset], entry.size}; }

  std::string spellings_;
  LargeVector<Added> added_;  // in order of the file; empty once finished
  size_t size_ = 0;
  LargeVector<Entry> by_id_;
  // By spelling: open addressing, linear probing. Hashes are seeded, so that no file can be made
  // to collide.
  LargeVector<Slot> slots_;
};

}  // namespace mili::text

// The vocabulary of a BPE model: spellings in the byte-level alphabet, both ways. Filled once, then
// immutable and readable from any thread. Knows nothing of added tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <absl/status/status.h>

#include "common/base/ids.h"
#include "common/text/large_vector.h"

namespace mili::text {

class Vocabulary {
 public:
  // Ids are below this, so that a hostile file cannot make the tables large; vocabularies in use
  // end near 300,000.
  static constexpr TokenId kMaxIds = 1u << 22;

  // Takes room for a file of this size, which spares copies; anything may follow.
  void ReserveForFile(size_t size_bytes);
  // INVALID_ARGUMENT if the id is out of range or the spellings exceed 4 GiB.
  absl::Status Add(std::string_view spelling, uint64_t id);
  // After the last Add. INVALID_ARGUMENT if two tokens share an id or a spelling.
  absl::Status Finish();

  size_t size() const { return size_; }
  // Of all spellings together.
  size_t size_bytes() const { return size_bytes_; }
  // One more than the largest id.
  TokenId end_id() const { return static_cast<TokenId>(by_id_.size()); }
  std::optional<TokenId> Find(std::string_view spelling) const {
    return Find(spelling, HashOf(spelling));
  }
  // In two steps, for who has many to find.
  static uint32_t HashOf(std::string_view spelling);
  void Prefetch(uint32_t hash) const { __builtin_prefetch(&slots_[hash & (slots_.size() - 1)]); }
  std::optional<TokenId> Find(std::string_view spelling, uint32_t hash) const;
  bool Contains(TokenId id) const { return id < by_id_.size() && by_id_[id] != kNoRecord; }
  // Empty if there is no such token.
  std::string_view SpellingOf(TokenId id) const;

 private:
  static constexpr uint32_t kNoRecord = UINT32_MAX;
  // A token lies in records_: this, then its spelling.
  struct Head {
    TokenId id;
    uint32_t size;
  };
  struct Slot {
    uint32_t hash = 0;
    uint32_t record = kNoRecord;
  };

  Head HeadAt(uint32_t record) const;
  std::string_view SpellingAt(uint32_t record) const {
    return {records_.data() + record + sizeof(Head), HeadAt(record).size};
  }
  // Where this spelling is in slots_, or would be.
  size_t SlotOf(std::string_view spelling, uint32_t hash) const;

  LargeVector<char> records_;
  std::vector<Slot> added_;  // in order of the file; empty once finished
  size_t size_ = 0;
  size_t size_bytes_ = 0;
  LargeVector<uint32_t> by_id_;  // the record of each
  // By spelling: open addressing, linear probing. Hashes are seeded, so that no file can be made
  // to collide.
  LargeVector<Slot> slots_;
};

}  // namespace mili::text

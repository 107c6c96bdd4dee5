// Words that are one token, by their bytes: those of at most 15. Filled once, then immutable and
// readable from any thread. In some languages nearly all words that are asked for are none, and the
// place of each would be fetched from afar: a filter comes first.
#pragma once

#include <cstdint>

#include "common/base/ids.h"
#include "common/text/hash_filter.h"
#include "common/text/large_vector.h"
#include "common/text/word_key.h"

namespace mili::text {

class WordTable {
 public:
  static constexpr TokenId kNone = UINT32_MAX;

  explicit WordTable(size_t max_words);

  // Not more often than max_words; a word that is there already stays. `hash` is that of the key.
  void Add(const WordKey& key, uint64_t hash, TokenId token);

  void Prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[hash >> slot_shift_]); }

  TokenId Find(const WordKey& key, uint64_t hash) const {
    if (!filter_.MayHave(hash)) return kNone;
    const Slot* const slots = slots_.data();
    for (size_t slot = hash >> slot_shift_;; slot = (slot + 1) & slot_mask_) {
      const Slot& candidate = slots[slot];
      if (candidate.key == key) return candidate.token;
      if (candidate.key.words[1] == 0) return kNone;
    }
  }

 private:
  struct Slot {
    WordKey key{};
    TokenId token = kNone;
  };

  // Open addressing, linear probing; the key of an empty slot has no size.
  LargeVector<Slot> slots_;
  HashFilter filter_;
  int slot_shift_;
  size_t slot_mask_;
};

}  // namespace mili::text

#include "common/text/word_table.h"

#include <algorithm>
#include <bit>

namespace mili::text {

WordTable::WordTable(size_t max_words)
    : slots_(std::bit_ceil(std::max<size_t>(max_words + max_words / 2, 64))),
      filter_(slots_.size() / 8),
      slot_shift_(64 - std::countr_zero(slots_.size())),
      slot_mask_(slots_.size() - 1) {}

void WordTable::Add(const WordKey& key, uint64_t hash, TokenId token) {
  filter_.Add(hash);
  size_t slot = hash >> slot_shift_;
  while (slots_[slot].key.words[1] != 0) {
    if (slots_[slot].key == key) return;
    slot = (slot + 1) & slot_mask_;
  }
  slots_[slot] = {key, token};
}

}  // namespace mili::text

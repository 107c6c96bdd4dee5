// The merge rules of BPE by their pair of tokens. Filled once, then immutable and readable from any
// thread. Most questions are about pairs that have no rule, which a filter answers.
#pragma once

#include <cstdint>

#include "common/base/ids.h"
#include "common/text/hash_filter.h"
#include "common/text/large_vector.h"

namespace mili::text {

// `left` and `right` become `merged`; its rank is its place in the list of merges.
struct MergeRule {
  TokenId left = 0;
  TokenId right = 0;
  TokenId merged = 0;
};

class PairRanks {
 public:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  struct Merge {
    uint32_t rank = kNoRank;
    TokenId merged = 0;
  };

  // Of two rules for one pair the last counts, as in tokenizers.
  explicit PairRanks(const LargeVector<MergeRule>& rules);

  // Whether there are two rules for one pair.
  bool has_overruled() const { return has_overruled_; }

  Merge Find(TokenId left, TokenId right) const {
    const uint64_t pair = PairOf(left, right);
    const uint64_t hash = HashOf(pair);
    if (!filter_.MayHave(hash)) return {};
    for (size_t slot = hash >> slot_shift_;; slot = (slot + 1) & (slots_.size() - 1)) {
      const Slot& candidate = slots_[slot];
      if (candidate.merge.rank == kNoRank || candidate.pair == pair) return candidate.merge;
    }
  }

 private:
  struct Slot {
    uint64_t pair = 0;
    Merge merge;
  };

  static uint64_t PairOf(TokenId left, TokenId right) { return uint64_t{left} << 32 | right; }
  static uint64_t HashOf(uint64_t pair) {
    const uint64_t mixed = pair * 0x9E3779B97F4A7C15u;
    return mixed ^ mixed >> 32;
  }

  // Open addressing, linear probing; an empty slot has no rank.
  LargeVector<Slot> slots_;
  HashFilter filter_;
  int slot_shift_;
  bool has_overruled_ = false;
};

}  // namespace mili::text

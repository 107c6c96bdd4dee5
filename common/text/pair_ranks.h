// The merge rules of BPE by their pair of tokens. Filled once, then immutable and readable from any
// thread. Most questions are about pairs that have no rule: a bitmap that stays in the L2 cache
// answers them.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/ids.h"
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
    const uint64_t bit = hash >> filter_shift_;
    if ((filter_[bit / 64] >> (bit % 64) & 1) == 0) return {};
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
  std::vector<uint64_t> filter_;  // a bit for each value of a hash's first bits
  bool has_overruled_ = false;
  int slot_shift_;
  int filter_shift_;
};

}  // namespace mili::text

#include "common/text/pair_ranks.h"

#include <algorithm>
#include <bit>

namespace mili::text {

PairRanks::PairRanks(const LargeVector<MergeRule>& rules)
    : slots_(std::bit_ceil(std::max<size_t>(rules.size() + rules.size() / 2, 64))),
      filter_(slots_.size() / 8),
      slot_shift_(64 - std::countr_zero(slots_.size())) {
  const auto hash_of = [&](size_t i) { return HashOf(PairOf(rules[i].left, rules[i].right)); };
  for (uint32_t rank = 0; rank < rules.size(); ++rank) {
    constexpr size_t kAhead = 16;
    if (rank + kAhead < rules.size()) {
      __builtin_prefetch(&slots_[hash_of(rank + kAhead) >> slot_shift_], 1);
    }
    const uint64_t pair = PairOf(rules[rank].left, rules[rank].right);
    const uint64_t hash = HashOf(pair);
    filter_.Add(hash);
    size_t slot = hash >> slot_shift_;
    while (slots_[slot].merge.rank != kNoRank && slots_[slot].pair != pair) {
      slot = (slot + 1) & (slots_.size() - 1);
    }
    has_overruled_ |= slots_[slot].merge.rank != kNoRank;
    slots_[slot] = {pair, {rank, rules[rank].merged}};
  }
}

}  // namespace mili::text

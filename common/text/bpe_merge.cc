#include "common/text/bpe_merge.h"

#include <algorithm>
#include <functional>
#include <vector>

namespace mili::text {
namespace {

// Up to here scanning all ranks for the lowest is faster than a heap.
constexpr size_t kShortWord = 40;
constexpr uint32_t kNone = UINT32_MAX;

// What is left of a word while it is merged: a list threaded through the first symbols.
struct Symbol {
  TokenId id;
  uint32_t previous;
  uint32_t next;
};

size_t MergeShort(const PairRanks& ranks, TokenId* symbols, size_t size) {
  PairRanks::Merge merges[kShortWord];  // merges[i] is that of symbols i and i + 1
  for (size_t i = 0; i + 1 < size; ++i) merges[i] = ranks.Find(symbols[i], symbols[i + 1]);
  while (size > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < size; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == PairRanks::kNoRank) break;
    symbols[best] = merges[best].merged;
    std::copy(symbols + best + 2, symbols + size, symbols + best + 1);
    std::copy(merges + best + 1, merges + size - 1, merges + best);
    --size;
    if (best > 0) merges[best - 1] = ranks.Find(symbols[best - 1], symbols[best]);
    if (best + 1 < size) merges[best] = ranks.Find(symbols[best], symbols[best + 1]);
  }
  return size;
}

size_t MergeLong(const PairRanks& ranks, TokenId* out, uint32_t size) {
  std::vector<Symbol> symbols(size);
  for (uint32_t i = 0; i < size; ++i) {
    symbols[i] = {out[i], i - 1, i + 1 < size ? i + 1 : kNone};  // 0 - 1 is kNone
  }
  // (rank << 32 | position): the smallest is the next merge. Entries that a merge has overtaken
  // stay and are known by a rank that is no longer that of the pair at their position.
  std::vector<uint64_t> heap;
  const auto push = [&](uint32_t at) {
    const PairRanks::Merge merge = ranks.Find(symbols[at].id, symbols[symbols[at].next].id);
    if (merge.rank == PairRanks::kNoRank) return;
    heap.push_back(uint64_t{merge.rank} << 32 | at);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  for (uint32_t i = 0; i + 1 < size; ++i) push(i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    const auto at = static_cast<uint32_t>(heap.back());
    heap.pop_back();
    Symbol& left = symbols[at];
    if (left.next == kNone) continue;  // the last, or merged into its left neighbour
    const uint32_t right = left.next;
    const PairRanks::Merge merge = ranks.Find(left.id, symbols[right].id);
    if (merge.rank != rank) continue;
    left.id = merge.merged;
    left.next = symbols[right].next;
    symbols[right].next = kNone;
    if (left.next != kNone) {
      symbols[left.next].previous = at;
      push(at);
    }
    if (left.previous != kNone) push(left.previous);
  }
  size_t end = 0;
  for (uint32_t at = 0; at != kNone; at = symbols[at].next) out[end++] = symbols[at].id;
  return end;
}

}  // namespace

size_t MergeSymbols(const PairRanks& ranks, TokenId* symbols, size_t size) {
  if (size <= kShortWord) return MergeShort(ranks, symbols, size);
  return MergeLong(ranks, symbols, static_cast<uint32_t>(size));
}

}  // namespace mili::text

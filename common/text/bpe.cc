#include "common/text/bpe.h"

#include <algorithm>
#include <bit>

#include "common/base/strings.h"
#include "common/text/byte_level.h"
#include "common/text/utf8.h"

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

}  // namespace

Bpe::Bpe(const Vocabulary& vocabulary, const BpeSpec& spec)
    : unknown_(spec.unknown), fuse_unknown_(spec.fuse_unknown) {
  for (uint32_t byte = 0; byte < 256; ++byte) {
    std::string spelling;
    AppendCodePoint(ByteLevelChar(static_cast<uint8_t>(byte)), spelling);
    byte_ids_[byte] = vocabulary.Find(spelling);
  }
  const size_t num_slots = std::bit_ceil(std::max<size_t>(2 * spec.merges.size(), 2));
  slots_.resize(num_slots);
  slot_shift_ = 64 - std::countr_zero(num_slots);
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const MergeRule& rule = spec.merges[rank];
    Insert(PairOf(rule.left, rule.right), {static_cast<uint32_t>(rank), rule.merged});
  }
  if (spec.ignore_merges) {
    for (TokenId id = 0; id < vocabulary.end_id(); ++id) {
      if (!vocabulary.Contains(id)) continue;
      if (auto bytes = ByteLevelBytes(vocabulary.SpellingOf(id))) whole_words_[*bytes] = id;
    }
  }
}

void Bpe::Insert(uint64_t pair, Merge merge) {
  size_t slot = SlotOf(pair);
  while (slots_[slot].merge.rank != kNoRank && slots_[slot].pair != pair) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  slots_[slot] = {pair, merge};  // of two rules for one pair the last counts, as in tokenizers
}

Bpe::Merge Bpe::Find(TokenId left, TokenId right) const {
  const uint64_t pair = PairOf(left, right);
  for (size_t slot = SlotOf(pair);; slot = (slot + 1) & (slots_.size() - 1)) {
    const Slot& candidate = slots_[slot];
    if (candidate.merge.rank == kNoRank || candidate.pair == pair) return candidate.merge;
  }
}

void Bpe::Encode(std::string_view word, std::vector<TokenId>& out) const {
  if (!whole_words_.empty()) {
    if (const auto token = whole_words_.find(ToAbsl(word)); token != whole_words_.end()) {
      out.push_back(token->second);
      return;
    }
  }
  const size_t begin = out.size();
  AppendSymbols(word, out);
  if (out.size() - begin <= kShortWord) {
    MergeShort(begin, out);
  } else {
    MergeLong(begin, out);
  }
}

bool Bpe::KnowsEveryByte() const {
  return std::all_of(byte_ids_.begin(), byte_ids_.end(),
                     [](const std::optional<TokenId>& id) { return id.has_value(); });
}

void Bpe::AppendSymbols(std::string_view word, std::vector<TokenId>& out) const {
  bool after_unknown = false;
  for (const char c : word) {
    const std::optional<TokenId>& id = byte_ids_[static_cast<unsigned char>(c)];
    if (id) {
      out.push_back(*id);
    } else if (unknown_ && !(fuse_unknown_ && after_unknown)) {
      out.push_back(*unknown_);
    }
    after_unknown = !id;
  }
}

void Bpe::MergeShort(size_t begin, std::vector<TokenId>& out) const {
  TokenId* const symbols = out.data() + begin;
  size_t size = out.size() - begin;
  Merge merges[kShortWord];  // merges[i] is that of symbols i and i + 1
  for (size_t i = 0; i + 1 < size; ++i) merges[i] = Find(symbols[i], symbols[i + 1]);
  while (size > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < size; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoRank) break;
    symbols[best] = merges[best].merged;
    std::copy(symbols + best + 2, symbols + size, symbols + best + 1);
    std::copy(merges + best + 1, merges + size - 1, merges + best);
    --size;
    if (best > 0) merges[best - 1] = Find(symbols[best - 1], symbols[best]);
    if (best + 1 < size) merges[best] = Find(symbols[best], symbols[best + 1]);
  }
  out.resize(begin + size);
}

void Bpe::MergeLong(size_t begin, std::vector<TokenId>& out) const {
  const auto size = static_cast<uint32_t>(out.size() - begin);
  std::vector<Symbol> symbols(size);
  for (uint32_t i = 0; i < size; ++i) {
    symbols[i] = {out[begin + i], i - 1, i + 1 < size ? i + 1 : kNone};  // 0 - 1 is kNone
  }
  // (rank << 32 | position): the smallest is the next merge. Entries that a merge has overtaken
  // stay and are known by a rank that is no longer that of the pair at their position.
  std::vector<uint64_t> heap;
  const auto push = [&](uint32_t at) {
    const Merge merge = Find(symbols[at].id, symbols[symbols[at].next].id);
    if (merge.rank == kNoRank) return;
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
    const Merge merge = Find(left.id, symbols[right].id);
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
  size_t end = begin;
  for (uint32_t at = 0; at != kNone; at = symbols[at].next) out[end++] = symbols[at].id;
  out.resize(end);
}

}  // namespace mili::text

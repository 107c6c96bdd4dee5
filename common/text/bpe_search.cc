#include "common/text/bpe_search.h"

#include <atomic>

namespace mili::text {
namespace {

constexpr size_t kMaxTokenBytes = size_t{64} << 20;
constexpr uint32_t kNoLimit = UINT32_MAX;
static_assert(Vocabulary::kMaxIds <= 1u << 22);

// Places of a word from which no token leads on. Short words, nearly all, need one number.
class DeadEnds {
 public:
  explicit DeadEnds(size_t size) {
    if (size >= 64) rest_.resize(size / 64 + 1);
  }
  bool At(size_t place) const {
    return ((rest_.empty() ? first_ : rest_[place / 64]) >> (place % 64) & 1) != 0;
  }
  void Add(size_t place) {
    (rest_.empty() ? first_ : rest_[place / 64]) |= uint64_t{1} << (place % 64);
  }

 private:
  uint64_t first_ = 0;
  std::vector<uint64_t> rest_;
};

}  // namespace

std::unique_ptr<BpeSearch> BpeSearch::Create(const ByteIds& byte_ids, const TokenBytes& bytes,
                                             const LargeVector<MergeRule>& rules,
                                             const PairRanks& ranks) {
  auto search = std::unique_ptr<BpeSearch>(new BpeSearch(ranks));
  if (bytes.size_bytes() > kMaxTokenBytes || !search->Derive(byte_ids, bytes, rules))
    return nullptr;
  search->AddTrie(bytes);
  search->verdicts_.resize(size_t{1} << kVerdictsLog2);
  return search;
}

// Finds for every token the rule that ends its making, which is the first for it that nothing
// forestalls. False if a rule comes before one that makes a part of it.
bool BpeSearch::Derive(const ByteIds& byte_ids, const TokenBytes& bytes,
                       const LargeVector<MergeRule>& rules) {
  tokens_.resize(bytes.end_id());
  byte_pair_ranks_.resize(size_t{1} << 16);
  for (uint32_t byte = 0; byte < 256; ++byte) {
    tokens_[*byte_ids[byte]] = {.left = byte, .right = 0, .rank = 0, .size_bytes = 1};
  }
  std::vector<bool> is_part(tokens_.size(), false);  // of a rule so far
  for (uint32_t i = 0; i < rules.size(); ++i) {
    const MergeRule& rule = rules[i];
    if (constexpr uint32_t kAhead = 16; i + kAhead < rules.size()) {
      __builtin_prefetch(&tokens_[rules[i + kAhead].left], 1);
      __builtin_prefetch(&tokens_[rules[i + kAhead].right], 1);
    }
    Token& left = tokens_[rule.left];
    Token& right = tokens_[rule.right];
    // Of the rules before this one, which may be done first.
    const bool may_merge = MayMerge(rule.left, rule.right);
    left.right_joins |= MarkOf(rule.right);
    right.left_marks |= MarkOf(rule.right);
    if (is_part[rule.merged]) return false;
    is_part[rule.left] = is_part[rule.right] = true;
    if (ranks_.has_overruled() && ranks_.Find(rule.left, rule.right).rank != i) continue;
    if (left.size_bytes == 0 || right.size_bytes == 0) continue;
    if (left.rank == 0 && right.rank == 0) byte_pair_ranks_[left.left << 8 | right.left] = i + 1;
    Token& merged = tokens_[rule.merged];
    if (merged.size_bytes != 0) continue;
    Border border = {rule.left, rule.right, i + 1};
    if (may_merge && Undo(border) && !Stay(border)) continue;
    merged = {rule.left,         rule.right,     i + 1, left.size_bytes + right.size_bytes,
              right.right_joins, left.left_marks};
  }
  return true;
}

void BpeSearch::AddTrie(const TokenBytes& bytes) {
  LargeVector<TokenId> reached;
  reached.reserve(tokens_.size());
  for (TokenId id = 0; id < tokens_.size(); ++id) {
    if (IsReached(id)) reached.push_back(id);
  }
  trie_ = std::make_unique<TokenTrie>(bytes, reached);
}

bool BpeSearch::Stay(Border border) const {
  while (MayMerge(border.left, border.right)) {
    const Token& a = tokens_[border.left];
    const Token& b = tokens_[border.right];
    const uint32_t rank = a.rank == 0 && b.rank == 0 ? byte_pair_ranks_[a.left << 8 | b.left]
                                                     : RankOf(border.left, border.right);
    if (rank != 0 && rank < border.limit) return false;
    if (!Undo(border)) break;
  }
  return true;
}

bool BpeSearch::Undo(Border& border) const {
  const Token& a = tokens_[border.left];
  const Token& b = tokens_[border.right];
  if (a.rank == 0 && b.rank == 0) return false;
  // Of equal merges the left one is done first: it forestalls one across the border, the right one
  // does not.
  if (a.rank > b.rank) {
    border = {a.right, border.right, a.rank};
  } else {
    border = {border.left, b.left, b.rank + 1};
  }
  return true;
}

bool BpeSearch::AreNeighbours(TokenId left, TokenId right) const {
  if (!MayMerge(left, right)) return true;
  // Ids are below 2^22. The factor is odd, so that no two pairs become one.
  constexpr int kPairBits = 44;
  static_assert(kPairBits - kVerdictsLog2 <= 30);
  constexpr uint64_t kPairMask = (uint64_t{1} << kPairBits) - 1;
  const uint64_t mixed = (uint64_t{left} << 22 | right) * 0x9E3779B97F4A7C15u & kPairMask;
  const auto pair = static_cast<uint32_t>(mixed) << 2 | 2;
  const std::atomic_ref<uint32_t> place(verdicts_[mixed >> (kPairBits - kVerdictsLog2)]);
  const uint32_t known = place.load(std::memory_order_relaxed);
  if ((known | 1) == (pair | 1)) return (known & 1) != 0;
  const bool stay = Stay({left, right, kNoLimit});
  place.store(pair | (stay ? 1 : 0), std::memory_order_relaxed);
  return stay;
}

size_t BpeSearch::Encode(const char* word, size_t size, TokenId* out) const {
  DeadEnds dead(size);
  size_t count = 0;
  size_t at = 0;
  TokenTrie::Match match = trie_->Longest(word, size);
  const auto shorten = [&] {
    match.token = trie_->ShorterThan(match.token);
    if (match.token != kNone) match.size_bytes = tokens_[match.token].size_bytes;
  };
  for (;;) {
    // From the token in hand to one that can stand here; every byte is a token, so there is one
    // at first.
    while (match.token != kNone) {
      if (!dead.At(at + match.size_bytes) &&
          (count == 0 || AreNeighbours(out[count - 1], match.token))) {
        break;
      }
      shorten();
    }
    if (match.token == kNone) {
      dead.Add(at);
      match = {out[--count], 0};
      at -= tokens_[match.token].size_bytes;
      shorten();
      continue;
    }
    out[count++] = match.token;
    at += match.size_bytes;
    if (at == size) return count;
    match = trie_->Longest(word + at, size - at);
  }
}

}  // namespace mili::text

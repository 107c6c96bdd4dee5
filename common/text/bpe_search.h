// BPE of a word without merging: the sequence of tokens in which every two neighbours, taken alone,
// would stay as they are. There is exactly one, and it is what the merges lead to, if no rule uses
// a token before the rules that make it (which a trained list of merges never does): the first
// merge across a border between two tokens would be done in the two alone as well. Neighbours are
// judged by undoing their merges, latest first. The longest token that fits is tried first, and
// where nothing fits the one before is shortened; since a beginning of the word has one way only,
// no place is entered twice, and time is linear in the word.
// Immutable once made, any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "common/text/large_vector.h"
#include "common/text/pair_ranks.h"
#include "common/text/token_bytes.h"
#include "common/text/token_trie.h"

namespace mili::text {

// The token of each byte, if the vocabulary has one.
using ByteIds = std::array<std::optional<TokenId>, 256>;

class BpeSearch {
 public:
  static constexpr TokenId kNone = UINT32_MAX;

  // Null if the rules are not of the form above, or the tokens exceed 64 MiB. Every byte has an id.
  // Borrows `ranks`, which is of the rules.
  static std::unique_ptr<BpeSearch> Create(const ByteIds& byte_ids, const TokenBytes& bytes,
                                           const LargeVector<MergeRule>& rules,
                                           const PairRanks& ranks);

  // Writes the tokens of a word to `out`, which has room for one a byte; says how many.
  size_t Encode(const char* word, size_t size, TokenId* out) const;

  // Whether the bytes of this token are encoded as this token.
  bool IsReached(TokenId token) const { return tokens_[token].size_bytes != 0; }

 private:
  // How a token is made: of two others by the rule of this rank + 1, or, with rank 0, it is a byte.
  struct Token {
    TokenId left = 0;  // of a byte: the byte
    TokenId right = 0;
    uint32_t rank = 0;
    uint32_t size_bytes = 0;  // 0: never made
    // Its right edge is itself, its right part, that one's and so on; its left edge likewise. Of
    // each on the right edge, marks of what a rule merges it with before the edge's own merge takes
    // it up; of each on the left edge its mark, if a rule merges it with something before it as
    // early. If no bit is common, no rule merges across a border.
    uint64_t right_joins = 0;
    uint64_t left_marks = 0;
  };
  static uint64_t MarkOf(TokenId token) { return uint64_t{1} << (token * 0x9E3779B1u >> 26); }

  explicit BpeSearch(const PairRanks& ranks) : ranks_(ranks) {}
  bool Derive(const ByteIds& byte_ids, const TokenBytes& bytes,
              const LargeVector<MergeRule>& rules);
  void AddTrie(const TokenBytes& bytes);

  // Rank + 1 of the rule for the pair, both tokens bytes or not.
  uint32_t RankOf(TokenId left, TokenId right) const { return ranks_.Find(left, right).rank + 1; }
  // Whether a rule may merge parts of the two across the border between them.
  bool MayMerge(TokenId left, TokenId right) const {
    return (tokens_[left].right_joins & tokens_[right].left_marks) != 0;
  }
  // Two tokens side by side, as they are before the rules from `limit` on (rank + 1).
  struct Border {
    TokenId left;
    TokenId right;
    uint32_t limit;
  };
  // Whether no rule before the limit merges across the border while the two are made; the rule for
  // the pair itself counts.
  bool Stay(Border border) const;
  // Undoes the later merge of the two tokens, and takes its rank for the limit. False: both are
  // bytes.
  bool Undo(Border& border) const;
  // The same of two without a limit, remembered.
  bool AreNeighbours(TokenId left, TokenId right) const;

  const PairRanks& ranks_;
  LargeVector<Token> tokens_;              // by id
  std::vector<uint32_t> byte_pair_ranks_;  // [65536]: rank + 1 of two bytes' rule; 0: none
  std::unique_ptr<TokenTrie> trie_;
  // Pairs that were judged, each in one number, so that any thread may read and write it; a later
  // pair takes the place of an earlier one. From below: the verdict, whether there is one, and what
  // of the mixed pair the place does not say.
  static constexpr int kVerdictsLog2 = 16;
  mutable std::vector<uint32_t> verdicts_;  // [1 << kVerdictsLog2], used as atomics; 0: none
};

}  // namespace mili::text

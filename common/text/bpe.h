// Byte-pair encoding of one word: the merge of lowest rank first, the leftmost on ties, as
// tokenizers' models/bpe. Time n log n in the length of the word. Immutable once made, any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "common/base/ids.h"
#include "common/text/vocabulary.h"

namespace mili::text {

// `left` and `right` become `merged`; its rank is its place in the list of merges.
struct MergeRule {
  TokenId left = 0;
  TokenId right = 0;
  TokenId merged = 0;
};

struct BpeSpec {
  std::vector<MergeRule> merges;
  // Stands for a byte that the vocabulary does not know; without it such bytes are dropped.
  std::optional<TokenId> unknown;
  bool fuse_unknown = false;   // a run of unknown bytes is one token
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
};

class Bpe {
 public:
  Bpe(const Vocabulary& vocabulary, const BpeSpec& spec);

  // Appends the tokens of a word, which is bytes, not spelled in the byte-level alphabet.
  void Encode(std::string_view word, std::vector<TokenId>& out) const;

  bool KnowsEveryByte() const;

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  struct Merge {
    uint32_t rank = kNoRank;
    TokenId merged = 0;
  };
  struct Slot {
    uint64_t pair = 0;
    Merge merge;
  };

  static uint64_t PairOf(TokenId left, TokenId right) { return uint64_t{left} << 32 | right; }
  size_t SlotOf(uint64_t pair) const { return pair * 0x9E3779B97F4A7C15u >> slot_shift_; }
  void Insert(uint64_t pair, Merge merge);
  Merge Find(TokenId left, TokenId right) const;

  // Appends the initial symbols of the word: one a byte, but for unknown bytes.
  void AppendSymbols(std::string_view word, std::vector<TokenId>& out) const;
  // Merge what is in out[begin..]: by scanning for the lowest rank, or with a heap.
  void MergeShort(size_t begin, std::vector<TokenId>& out) const;
  void MergeLong(size_t begin, std::vector<TokenId>& out) const;

  std::array<std::optional<TokenId>, 256> byte_ids_;
  std::optional<TokenId> unknown_;
  bool fuse_unknown_;
  // Open addressing, linear probing, at most half full; an empty slot has no rank.
  std::vector<Slot> slots_;
  int slot_shift_;
  // Only for ignore_merges: tokens by their bytes.
  absl::flat_hash_map<std::string, TokenId> whole_words_;
};

}  // namespace mili::text

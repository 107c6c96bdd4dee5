// Byte-pair encoding of words, with the ids of tokenizers' models/bpe. A word that is one token is
// looked up; one of few tokens is remembered; the rest is searched for (bpe_search.h), or merged
// (bpe_merge.h) where the list of merges is none that search can follow. Any thread; immutable but
// for what it remembers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "common/base/ids.h"
#include "common/text/bpe_search.h"
#include "common/text/long_word_cache.h"
#include "common/text/pair_ranks.h"
#include "common/text/short_word_cache.h"
#include "common/text/token_bytes.h"
#include "common/text/vocabulary.h"
#include "common/text/word_seams.h"
#include "common/text/word_table.h"

namespace mili::text {

struct BpeSpec {
  LargeVector<MergeRule> merges;
  // Stands for a byte that the vocabulary does not know; without it such bytes are dropped.
  std::optional<TokenId> unknown;
  bool fuse_unknown = false;   // a run of unknown bytes is one token
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
};

ByteIds FindByteIds(const Vocabulary& vocabulary);
bool KnowsEveryByte(const ByteIds& ids);

class Bpe {
 public:
  // `bytes` is that of the vocabulary. Both are read during the call only.
  Bpe(const Vocabulary& vocabulary, const TokenBytes& bytes, const BpeSpec& spec);

  // More ids than the words have bytes may be written, though not kept.
  static constexpr size_t kSlack = ShortWordCache::kMaxTokens;

  // Writes the tokens of some words, which are bytes, not spelled in the byte-level alphabet, to
  // `out`, which has room for one a byte and kSlack more; says how many. Nothing at or behind
  // `readable_end` is read, but anything between a word and it.
  size_t Encode(std::span<const std::string_view> words, const char* readable_end,
                TokenId* out) const;
  // Where words may be cut before they are encoded; null: nowhere.
  const WordSeams* seams() const { return seams_.get(); }

 private:
  static constexpr size_t kGroup = 64;

  size_t EncodeGroup(std::span<const std::string_view> words, const char* readable_end,
                     TokenId* out) const;
  void AddWholeWords(const TokenBytes& bytes, bool ignore_merges);
  // Of a word that the cache of short ones does not know, or that is too long for it.
  size_t EncodeShort(std::string_view word, const WordKey& key, uint64_t hash, TokenId* out) const;
  size_t EncodeLong(std::string_view word, uint64_t hash, TokenId* out) const;
  size_t EncodeNew(std::string_view word, TokenId* out) const;
  // The initial symbols of the word: one a byte, but for unknown bytes.
  size_t PutSymbols(std::string_view word, TokenId* out) const;

  ByteIds byte_ids_;
  std::optional<TokenId> unknown_;
  bool fuse_unknown_;
  PairRanks ranks_;
  std::unique_ptr<BpeSearch> search_;  // null: only merging will do
  std::unique_ptr<WordSeams> seams_;   // may be null
  WordTable words_;
  // Only for ignore_merges: tokens that are too long for words_.
  absl::flat_hash_map<std::string, TokenId> long_words_;
  // Written to by all who encode. The second also keeps the short words that are no token.
  ShortWordCache short_cache_;
  LongWordCache long_cache_;
};

}  // namespace mili::text

#include "common/text/bpe.h"

#include <algorithm>
#include <bit>

#include "common/base/strings.h"
#include "common/text/bpe_merge.h"
#include "common/text/byte_level.h"
#include "common/text/utf8.h"

namespace mili::text {

ByteIds FindByteIds(const Vocabulary& vocabulary) {
  ByteIds ids;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    std::string spelling;
    AppendCodePoint(ByteLevelChar(static_cast<uint8_t>(byte)), spelling);
    ids[byte] = vocabulary.Find(spelling);
  }
  return ids;
}

bool KnowsEveryByte(const ByteIds& ids) {
  return std::all_of(ids.begin(), ids.end(), [](const auto& id) { return id.has_value(); });
}

Bpe::Bpe(const Vocabulary& vocabulary, const TokenBytes& bytes, const BpeSpec& spec)
    : byte_ids_(FindByteIds(vocabulary)),
      unknown_(spec.unknown),
      fuse_unknown_(spec.fuse_unknown),
      ranks_(spec.merges),
      words_(vocabulary.size()) {
  if (KnowsEveryByte(byte_ids_)) search_ = BpeSearch::Create(byte_ids_, bytes, spec.merges, ranks_);
  // Where merges may be ignored, a word can be a token that its pieces do not lead to.
  if (search_ != nullptr && !spec.ignore_merges) seams_ = std::make_unique<WordSeams>(bytes);
  AddWholeWords(bytes, spec.ignore_merges);
}

void Bpe::AddWholeWords(const TokenBytes& bytes, bool ignore_merges) {
  // Each waits for some others, while its place is fetched.
  constexpr size_t kWaiting = 16;
  struct Word {
    WordKey key;
    uint64_t hash;
    TokenId token;
  };
  std::array<Word, kWaiting> waiting;
  size_t count = 0;
  const auto add = [&](const Word& word) { words_.Add(word.key, word.hash, word.token); };
  for (TokenId id = 0; id < bytes.end_id(); ++id) {
    const std::string_view word = bytes.at(id);
    if (word.empty() || !bytes.IsByteLevel(id)) continue;
    if (!ignore_merges && (search_ == nullptr || !search_->IsReached(id))) continue;
    if (word.size() > WordKey::kMaxBytes) {
      if (ignore_merges) long_words_.emplace(word, id);
      continue;
    }
    const WordKey key = WordKeyOfReadable(word.data(), word.size());
    Word& place = waiting[count % kWaiting];
    if (count >= kWaiting) add(place);
    place = {key, key.Hash(), id};
    words_.Prefetch(place.hash);
    ++count;
  }
  for (size_t i = count - std::min(count, kWaiting); i < count; ++i) add(waiting[i % kWaiting]);
}

size_t Bpe::Encode(std::span<const std::string_view> words, const char* readable_end,
                   TokenId* out) const {
  TokenId* const begin = out;
  while (!words.empty()) {
    const size_t size = std::min(words.size(), kGroup);
    out += EncodeGroup(words.first(size), readable_end, out);
    words = words.subspan(size);
  }
  return out - begin;
}

// The places in the caches are asked for before the first is needed, since most lie outside of the
// nearest memory; of fewer words the first would have to wait.
size_t Bpe::EncodeGroup(std::span<const std::string_view> words, const char* readable_end,
                        TokenId* out) const {
  TokenId* const begin = out;
  std::array<WordKey, kGroup> keys;
  std::array<uint64_t, kGroup> hashes;
  static_assert(kGroup <= 64);
  uint64_t longs = 0;  // a bit a word
  // If this many bytes are there at the last word, they are at all.
  const bool readable = readable_end - words.back().data() >= 16;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word.size() > WordKey::kMaxBytes) {
      longs |= uint64_t{1} << i;
      if (word.size() > LongWordCache::kMaxBytes) continue;
      hashes[i] = LongWordCache::HashOf(word);
      long_cache_.PrefetchPlace(hashes[i]);
      continue;
    }
    keys[i] = readable ? WordKeyOfReadable(word.data(), word.size()) : WordKey::Of(word);
    hashes[i] = keys[i].Hash();
    short_cache_.Prefetch(hashes[i]);
  }
  for (uint64_t left = longs; left != 0; left &= left - 1) {
    const int i = std::countr_zero(left);
    if (words[i].size() <= LongWordCache::kMaxBytes) long_cache_.PrefetchWord(hashes[i]);
  }
  for (size_t i = 0; i < words.size(); ++i) {
    if ((longs >> i & 1) != 0) {
      out += EncodeLong(words[i], hashes[i], out);
    } else if (const size_t count = short_cache_.Find(keys[i], hashes[i], out)) {
      out += count;
    } else {
      out += EncodeShort(words[i], keys[i], hashes[i], out);
    }
  }
  return out - begin;
}

size_t Bpe::EncodeShort(std::string_view word, const WordKey& key, uint64_t hash,
                        TokenId* out) const {
  size_t count = 1;
  if (const TokenId token = words_.Find(key, hash); token != WordTable::kNone) {
    *out = token;
  } else if ((count = long_cache_.Find(word, hash, out)) == 0) {
    count = EncodeNew(word, out);
    long_cache_.Put(word, hash, {out, count});
  }
  short_cache_.Put(key, hash, {out, count});
  return count;
}

size_t Bpe::EncodeLong(std::string_view word, uint64_t hash, TokenId* out) const {
  const bool is_kept = word.size() <= LongWordCache::kMaxBytes;
  if (is_kept) {
    if (const size_t count = long_cache_.Find(word, hash, out)) return count;
  }
  if (!long_words_.empty()) {
    if (const auto token = long_words_.find(ToAbsl(word)); token != long_words_.end()) {
      *out = token->second;
      return 1;
    }
  }
  const size_t count = EncodeNew(word, out);
  if (is_kept) long_cache_.Put(word, hash, {out, count});
  return count;
}

size_t Bpe::EncodeNew(std::string_view word, TokenId* out) const {
  if (search_ != nullptr) return search_->Encode(word.data(), word.size(), out);
  return MergeSymbols(ranks_, out, PutSymbols(word, out));
}

size_t Bpe::PutSymbols(std::string_view word, TokenId* out) const {
  size_t count = 0;
  bool after_unknown = false;
  for (const char c : word) {
    const std::optional<TokenId>& id = byte_ids_[static_cast<unsigned char>(c)];
    if (id) {
      out[count++] = *id;
    } else if (unknown_ && !(fuse_unknown_ && after_unknown)) {
      out[count++] = *unknown_;
    }
    after_unknown = !id;
  }
  return count;
}

}  // namespace mili::text

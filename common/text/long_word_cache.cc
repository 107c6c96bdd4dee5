#include "common/text/long_word_cache.h"

#include <algorithm>

namespace mili::text {

uint64_t LongWordCache::HashOf(std::string_view word) {
  // The factors are odd, so that no bit of the word is lost; the first bits are the best.
  uint64_t mixed = word.size() * 0x9E3779B97F4A7C15u;
  const size_t num_parts = NumParts(word.size());
  for (size_t i = 0; i < num_parts; ++i) {
    mixed = std::rotl(mixed, 23) ^ Part(word, i) * (0xC2B2AE3D27D4EB4Fu + 2 * i);
  }
  return (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9u;
}

void LongWordCache::PrefetchWord(uint64_t hash) const {
  if (ring_.empty() || places_.empty()) return;
  for (size_t way = 0; way < kWays; ++way) {
    const uint64_t place = Load(places_[BucketOf(hash) + way]);
    if (!MayBeOf(place, hash)) continue;
    const uint64_t* const record = &ring_[(place >> kTagBits) % kRingSize];
    __builtin_prefetch(record);
    __builtin_prefetch(record + 8);
  }
}

size_t LongWordCache::Find(std::string_view word, uint64_t hash, TokenId* out) const {
  if (ring_.empty() || places_.empty() || word.size() > kMaxBytes) return 0;
  for (size_t way = 0; way < kWays; ++way) {
    const uint64_t place = Load(places_[BucketOf(hash) + way]);
    if (!MayBeOf(place, hash)) continue;
    if (const size_t count = FindAt(place >> kTagBits, word, out)) return count;
  }
  return 0;
}

size_t LongWordCache::FindAt(uint64_t position, std::string_view word, TokenId* out) const {
  uint64_t* const record = &ring_[position % kRingSize];
  // What is overwritten meanwhile may say anything; so sizes are held against the word's.
  const uint64_t head = Load(record[0]);
  const size_t count = head >> 16;
  if ((head & 0xFFFF) != word.size() || count > word.size()) return 0;
  const size_t num_parts = NumParts(word.size());
  const size_t num_pairs = (count + 1) / 2;
  if (position % kRingSize + 1 + num_parts + num_pairs > kRingSize) return 0;
  uint64_t difference = 0;
  for (size_t i = 0; i < num_parts; ++i) difference |= Load(record[1 + i]) ^ Part(word, i);
  if (difference != 0) return 0;
  for (size_t i = 0; i < num_pairs; ++i) {
    const uint64_t pair = Load(record[1 + num_parts + i]);
    out[2 * i] = static_cast<TokenId>(pair);
    out[2 * i + 1] = static_cast<TokenId>(pair >> 32);
  }
  // The loads above acquire, so this one sees the end of whoever wrote what they saw.
  return end_.load(std::memory_order_relaxed) <= position + kRingSize ? count : 0;
}

void LongWordCache::Put(std::string_view word, uint64_t hash,
                        std::span<const TokenId> tokens) const {
  if (ring_.empty() || places_.empty() || word.size() > kMaxBytes || tokens.empty()) return;
  if (tokens.size() > word.size() || writing_.exchange(true, std::memory_order_acquire)) return;
  const size_t num_parts = NumParts(word.size());
  const size_t num_words = 1 + num_parts + (tokens.size() + 1) / 2;
  uint64_t position = end_.load(std::memory_order_relaxed);
  if (position % kRingSize + num_words > kRingSize) {
    position += kRingSize - position % kRingSize;
  }
  end_.store(position + num_words, std::memory_order_relaxed);
  uint64_t* record = &ring_[position % kRingSize];
  Store(*record++, word.size() | tokens.size() << 16);
  for (size_t i = 0; i < num_parts; ++i) Store(*record++, Part(word, i));
  for (size_t i = 0; i < tokens.size(); i += 2) {
    const uint64_t second = i + 1 < tokens.size() ? tokens[i + 1] : 0;
    Store(*record++, tokens[i] | second << 32);
  }
  // In place of the oldest of its bucket; empty places are the oldest.
  uint64_t* const bucket = &places_[BucketOf(hash)];
  uint64_t* const oldest = std::min_element(bucket, bucket + kWays);
  Store(*oldest, position << kTagBits | TagOf(hash));
  writing_.store(false, std::memory_order_release);
}

}  // namespace mili::text

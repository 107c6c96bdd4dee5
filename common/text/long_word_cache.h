// Words and their tokens, as they were met, one behind the other in a ring of fixed size, where the
// newest take the place of the oldest; a table of places says where. Shared by all threads; reads
// take no lock and writes wait for nobody: who has read looks whether the ring has come round
// meanwhile, and of two who would write at once one does not.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "common/base/ids.h"
#include "common/text/large_vector.h"

namespace mili::text {

class LongWordCache {
 public:
  static constexpr size_t kMaxBytes = 255;  // longer words are not kept

  LongWordCache() : places_(size_t{kWays} << kBucketsLog2), ring_(kRingSize) {}

  // Of words of at least 8 bytes; of shorter ones any hash will do.
  static uint64_t HashOf(std::string_view word);

  // In this order, some time before Find.
  void PrefetchPlace(uint64_t hash) const { __builtin_prefetch(&places_[BucketOf(hash)]); }
  void PrefetchWord(uint64_t hash) const;

  // Writes the word's tokens to `out`, which has room for one a byte and one more, and says how
  // many; 0: unknown.
  size_t Find(std::string_view word, uint64_t hash, TokenId* out) const;

  // Does nothing if the word is too long, has no tokens, or another thread is writing.
  void Put(std::string_view word, uint64_t hash, std::span<const TokenId> tokens) const;

 private:
  // A place: where the word begins in the ring, counted on and on, and a part of its hash; 0: none.
  static constexpr int kBucketsLog2 = 16, kWays = 4;  // 2 MiB
  static constexpr int kTagBits = 24;
  // In the ring: size and number of tokens, the word, the tokens two by two.
  static constexpr size_t kRingSize = size_t{1} << 21;  // 16 MiB

  static size_t BucketOf(uint64_t hash) { return (hash >> (64 - kBucketsLog2)) * kWays; }
  static constexpr uint64_t kTagMask = (uint64_t{1} << kTagBits) - 1;
  static uint64_t TagOf(uint64_t hash) { return hash >> 16 & kTagMask; }
  static bool MayBeOf(uint64_t place, uint64_t hash) {
    return place != 0 && (place & kTagMask) == TagOf(hash);
  }
  static uint64_t Load(uint64_t& word) {
    return std::atomic_ref(word).load(std::memory_order_acquire);
  }
  static void Store(uint64_t& word, uint64_t value) {
    std::atomic_ref(word).store(value, std::memory_order_release);
  }
  // The i-th eight bytes; the last are those at the end, so that nothing behind it is read.
  static uint64_t Part(std::string_view word, size_t i) {
    uint64_t part = 0;
    if (word.size() < 8) {
      std::memcpy(&part, word.data(), word.size());
    } else {
      std::memcpy(&part, word.data() + std::min(8 * i, word.size() - 8), 8);
    }
    return part;
  }
  static size_t NumParts(size_t size) { return (size + 7) / 8; }

  size_t FindAt(uint64_t position, std::string_view word, TokenId* out) const;

  LargeZeros<uint64_t> places_;
  LargeZeros<uint64_t> ring_;
  // What lies before, less the size of the ring, may be overwritten.
  mutable std::atomic<uint64_t> end_{1};
  mutable std::atomic<bool> writing_{false};
};

}  // namespace mili::text

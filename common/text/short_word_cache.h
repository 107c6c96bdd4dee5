// Short words of a few tokens, as they were met: a table of fixed size, small enough for the nearer
// caches, in which a new word takes the place of an old one. Shared by all threads; reads take no
// lock and writes wait for nobody: an entry carries a version, and a reader that sees it change has
// not found the word.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>

#include "common/base/ids.h"
#include "common/text/large_vector.h"
#include "common/text/word_key.h"

namespace mili::text {

class ShortWordCache {
 public:
  static constexpr size_t kMaxTokens = 4;  // words of more are not kept

  ShortWordCache() : buckets_(size_t{1} << kBucketsLog2) {}

  void Prefetch(uint64_t hash) const { __builtin_prefetch(&buckets_[hash >> kShift]); }

  // Writes the word's tokens to `out`, which has room for kMaxTokens, and says how many; 0:
  // unknown.
  size_t Find(const WordKey& key, uint64_t hash, TokenId* out) const {
    if (buckets_.empty()) return 0;
    Bucket& bucket = buckets_[hash >> kShift];
    const auto is = [&key](Entry& entry) {
      return ((Load(entry.key[0]) ^ key.words[0]) | (Load(entry.key[1]) ^ key.words[1])) == 0;
    };
    // Which of the two it is is hard to predict, and not asked.
    Entry& entry = bucket.entries[is(bucket.entries[1]) ? 1 : 0];
    // Loads that acquire are not moved behind the last one, which tells whether they belong
    // together; on x86 they cost nothing.
    const uint64_t state = Load(entry.state);
    const bool found = is(entry);
    const uint64_t front = Load(entry.front);
    if (!found || std::atomic_ref(entry.state).load(std::memory_order_relaxed) != state) return 0;
    PutPair(front, out);
    PutPair(state & (kIdMask | kIdMask << 32), out + 2);
    return state >> kCountShift & 7;
  }

  // Does nothing if there are too many, or another thread is writing the same entry.
  void Put(const WordKey& key, uint64_t hash, std::span<const TokenId> tokens) const {
    if (buckets_.empty() || tokens.empty() || tokens.size() > kMaxTokens) return;
    // The first place that is empty; if none is, the word decides which of the two gives way.
    Bucket& bucket = buckets_[hash >> kShift];
    const auto is_used = [&](int at) { return Load(bucket.entries[at].state) != 0; };
    const int at = is_used(0) && (!is_used(1) || (hash & 1) != 0) ? 1 : 0;
    Write(bucket.entries[at], key, tokens);
  }

 private:
  static constexpr int kBucketsLog2 = 16, kShift = 64 - kBucketsLog2;  // 4 MiB

  // Plain numbers, so that pages that no word has come to stay untouched; used as atomics.
  // front: the first two tokens. state: the other two, each in the low 22 bits of a half; in the
  // high bits of the halves parts of the version, how many tokens there are (0 while it is
  // written), and whether it is being written.
  struct Entry {
    uint64_t key[2];
    uint64_t front;
    uint64_t state;
  };
  struct alignas(64) Bucket {
    Entry entries[2];
  };
  static constexpr uint64_t kIdMask = (1u << 22) - 1;
  static constexpr int kCountShift = 54;
  static constexpr uint64_t kWriting = uint64_t{1} << 57;
  static constexpr uint64_t kVersion = uint64_t{0x3FF} << 22 | uint64_t{0x3F} << 58;

  // Two tokens in one number.
  static void PutPair(uint64_t pair, TokenId* out) {
    if constexpr (std::endian::native == std::endian::big) pair = std::rotl(pair, 32);
    std::memcpy(out, &pair, sizeof(pair));
  }
  static uint64_t Load(uint64_t& word) {
    return std::atomic_ref(word).load(std::memory_order_acquire);
  }

  static void Write(Entry& entry, const WordKey& key, std::span<const TokenId> tokens) {
    const std::atomic_ref<uint64_t> state(entry.state);
    uint64_t before = state.load(std::memory_order_relaxed);
    // The carry runs through the bits that are not the version's.
    const uint64_t version = ((before | ~kVersion) + (uint64_t{1} << 22)) & kVersion;
    if ((before & kWriting) != 0 ||
        !state.compare_exchange_strong(before, version | kWriting, std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
      return;
    }
    // Each store releases: who reads what it wrote also sees that writing had begun.
    const auto store = [](uint64_t& to, uint64_t value) {
      std::atomic_ref(to).store(value, std::memory_order_release);
    };
    const auto token = [&](size_t i) { return i < tokens.size() ? uint64_t{tokens[i]} : 0; };
    store(entry.key[0], key.words[0]);
    store(entry.key[1], key.words[1]);
    store(entry.front, token(0) | token(1) << 32);
    store(entry.state,
          version | token(2) | token(3) << 32 | uint64_t{tokens.size()} << kCountShift);
  }

  LargeZeros<Bucket> buckets_;
};

}  // namespace mili::text

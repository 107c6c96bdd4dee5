// Words that are several tokens, as they were met: a table of fixed size in which a new word takes
// the place of an old one. Shared by all threads; reads take no lock and writes wait for nobody: an
// entry carries a version, odd while it is written, and a reader that sees it change has not found
// the word. Memory that no word has come to is not touched.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "common/base/ids.h"
#include "common/text/word_key.h"

namespace mili::text {

// Words of up to `kKeyWords` * 8 - 1 bytes and `kTokens` tokens, an even number.
template <size_t kKeyWords, size_t kTokens, int kEntriesLog2>
class WordCache {
 public:
  using Key = LongWordKey<kKeyWords>;
  static constexpr size_t kMaxTokens = kTokens;  // words of more are not kept

  WordCache()
      : entries_(static_cast<Entry*>(std::calloc(size_t{1} << kEntriesLog2, sizeof(Entry)))) {}

  void Prefetch(uint64_t hash) const {
    if (entries_ == nullptr) return;
    const char* const entry = reinterpret_cast<const char*>(&entries_[FirstOf(hash)]);
    for (size_t at = 0; at < sizeof(Entry); at += 64) __builtin_prefetch(entry + at);
  }

  // Writes the word's tokens to `out`, which has room for kMaxTokens, and says how many; 0:
  // unknown.
  size_t Find(const Key& key, uint64_t hash, TokenId* out) const {
    if (entries_ == nullptr) return 0;
    const size_t first = FirstOf(hash);
    if (const size_t count = FindAt(entries_[first], key, out)) return count;
    return FindAt(entries_[first ^ 1], key, out);
  }

  // Does nothing if there are too many, or another thread is writing the same entry.
  void Put(const Key& key, uint64_t hash, std::span<const TokenId> tokens) {
    if (entries_ == nullptr || tokens.empty() || tokens.size() > kMaxTokens) return;
    // The first place that is empty; if none is, the word decides which of the two gives way.
    const size_t first = FirstOf(hash);
    const auto is_used = [&](size_t at) {
      return Load(entries_[at].state, std::memory_order_relaxed) != 0;
    };
    size_t at = first;
    if (is_used(first) && (!is_used(first ^ 1) || (hash & 1) != 0)) at = first ^ 1;
    Write(entries_[at], key, tokens);
  }

 private:
  static constexpr size_t kPairs = kTokens / 2;
  // state: version << 9 | writing << 8 | number of tokens.
  static constexpr uint64_t kCountMask = 0xFF, kWriting = 0x100, kVersion = 0x200;

  // Plain numbers, so that the pages of a new table may stay untouched; used as atomics.
  struct Entry {
    uint64_t state;
    std::array<uint64_t, kKeyWords> key;
    std::array<uint64_t, kPairs> tokens;
  };
  struct Free {
    void operator()(Entry* entries) const { std::free(entries); }
  };

  static uint64_t Load(uint64_t& word, std::memory_order order) {
    return std::atomic_ref<uint64_t>(word).load(order);
  }
  static size_t FirstOf(uint64_t hash) { return hash >> (64 - kEntriesLog2); }

  static size_t FindAt(Entry& entry, const Key& key, TokenId* out) {
    const uint64_t state = Load(entry.state, std::memory_order_acquire);
    // Loads that acquire are not moved behind the last one, which tells whether they belong
    // together; on x86 they cost nothing.
    for (size_t i = 0; i < kKeyWords; ++i) {
      if (Load(entry.key[i], std::memory_order_acquire) != key.words[i]) return 0;
    }
    for (size_t i = 0; i < kPairs; ++i) {
      const uint64_t pair = Load(entry.tokens[i], std::memory_order_acquire);
      out[2 * i] = static_cast<TokenId>(pair);
      out[2 * i + 1] = static_cast<TokenId>(pair >> 32);
    }
    if ((state & kWriting) != 0 || Load(entry.state, std::memory_order_relaxed) != state) return 0;
    return state & kCountMask;
  }

  static void Write(Entry& entry, const Key& key, std::span<const TokenId> tokens) {
    const std::atomic_ref<uint64_t> state(entry.state);
    uint64_t before = state.load(std::memory_order_relaxed);
    if ((before & kWriting) != 0 ||
        !state.compare_exchange_strong(before, before | kWriting, std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
      return;
    }
    // Each store releases: who reads what it wrote also sees that writing had begun.
    const auto store = [](uint64_t& to, uint64_t value) {
      std::atomic_ref<uint64_t>(to).store(value, std::memory_order_release);
    };
    for (size_t i = 0; i < kKeyWords; ++i) store(entry.key[i], key.words[i]);
    for (size_t i = 0; i < kPairs; ++i) {
      const uint64_t first = 2 * i < tokens.size() ? tokens[2 * i] : 0;
      const uint64_t second = 2 * i + 1 < tokens.size() ? tokens[2 * i + 1] : 0;
      store(entry.tokens[i], first | second << 32);
    }
    const uint64_t version = (before & ~(kCountMask | kWriting)) + kVersion;
    state.store(version | tokens.size(), std::memory_order_release);
  }

  std::unique_ptr<Entry[], Free> entries_;  // null: no memory, nothing is remembered
};

}  // namespace mili::text

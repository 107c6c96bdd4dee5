// Words that are several tokens, as they were met: a table of fixed size in which a new word takes
// the place of an old one. Shared by all threads; reads take no lock and writes wait for nobody: an
// entry carries a version, odd while it is written, and a reader that sees it change has not found
// the word.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "common/base/ids.h"
#include "common/text/word_key.h"

namespace mili::text {

class WordCache {
 public:
  static constexpr size_t kMaxTokens = 10;                // longer words are not kept
  static constexpr size_t kNumEntries = size_t{1} << 15;  // 2 MiB

  WordCache() : entries_(std::make_unique<Entry[]>(kNumEntries)) {}

  // Writes the word's tokens to `out`, which has room for kMaxTokens, and says how many; 0:
  // unknown.
  size_t Find(const WordKey& key, uint64_t hash, TokenId* out) const {
    const Entry& entry = entries_[hash >> kShift];
    const uint64_t state = entry.state.load(std::memory_order_acquire);
    // Loads that acquire are not moved behind the last one, which tells whether they belong
    // together; on x86 they cost nothing.
    if (entry.low.load(std::memory_order_acquire) != key.low ||
        entry.high.load(std::memory_order_acquire) != key.high) {
      return 0;
    }
    for (size_t i = 0; i < kPairs; ++i) {
      const uint64_t pair = entry.tokens[i].load(std::memory_order_acquire);
      out[2 * i] = static_cast<TokenId>(pair);
      out[2 * i + 1] = static_cast<TokenId>(pair >> 32);
    }
    if ((state & kWriting) != 0 || entry.state.load(std::memory_order_relaxed) != state) return 0;
    return state & kCountMask;
  }

  // Does nothing if there are too many, or another thread is writing the same entry.
  void Put(const WordKey& key, uint64_t hash, std::span<const TokenId> tokens);

 private:
  static constexpr int kShift = 64 - 15;
  static_assert(kNumEntries == size_t{1} << (64 - kShift));
  static constexpr size_t kPairs = kMaxTokens / 2;
  // state: version << 9 | writing << 8 | number of tokens.
  static constexpr uint64_t kCountMask = 0xFF, kWriting = 0x100, kVersion = 0x200;

  struct alignas(64) Entry {
    std::atomic<uint64_t> state{0};
    std::atomic<uint64_t> low{0};
    std::atomic<uint64_t> high{0};
    std::array<std::atomic<uint64_t>, kPairs> tokens{};
  };
  static_assert(sizeof(Entry) == 64);

  std::unique_ptr<Entry[]> entries_;
};

}  // namespace mili::text

#include "common/text/word_cache.h"

namespace mili::text {

void WordCache::Put(const WordKey& key, uint64_t hash, std::span<const TokenId> tokens) {
  if (tokens.empty() || tokens.size() > kMaxTokens) return;
  Entry& entry = entries_[hash >> kShift];
  uint64_t state = entry.state.load(std::memory_order_relaxed);
  if ((state & kWriting) != 0 ||
      !entry.state.compare_exchange_strong(state, state | kWriting, std::memory_order_acquire,
                                           std::memory_order_relaxed)) {
    return;
  }
  // Each store releases: who reads what it wrote also sees that writing had begun.
  entry.low.store(key.low, std::memory_order_release);
  entry.high.store(key.high, std::memory_order_release);
  for (size_t i = 0; i < kPairs; ++i) {
    const uint64_t first = 2 * i < tokens.size() ? tokens[2 * i] : 0;
    const uint64_t second = 2 * i + 1 < tokens.size() ? tokens[2 * i + 1] : 0;
    entry.tokens[i].store(first | second << 32, std::memory_order_release);
  }
  const uint64_t version = (state & ~(kCountMask | kWriting)) + kVersion;
  entry.state.store(version | tokens.size(), std::memory_order_release);
}

}  // namespace mili::text

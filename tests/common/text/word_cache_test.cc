#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/text/long_word_cache.h"
#include "common/text/short_word_cache.h"

namespace mili::text {
namespace {

using testing::ElementsAreArray;

// Tokens that follow from the word, so that those of another are known for wrong.
std::vector<TokenId> TokensOf(const std::string& word, size_t max) {
  std::mt19937 chance(static_cast<uint32_t>(std::hash<std::string>()(word)));
  std::vector<TokenId> tokens(1 + chance() % std::min(max, word.size()));
  for (TokenId& token : tokens) token = chance() % (1u << 22);
  return tokens;
}

std::vector<TokenId> FindIn(const ShortWordCache& cache, const std::string& word) {
  const WordKey key = WordKey::Of(word);
  std::vector<TokenId> out(ShortWordCache::kMaxTokens);
  out.resize(cache.Find(key, key.Hash(), out.data()));
  return out;
}
void PutIn(const ShortWordCache& cache, const std::string& word) {
  const WordKey key = WordKey::Of(word);
  cache.Put(key, key.Hash(), TokensOf(word, ShortWordCache::kMaxTokens));
}
bool Holds(const ShortWordCache& cache, const std::string& word) {
  const std::vector<TokenId> found = FindIn(cache, word);
  EXPECT_TRUE(found.empty() || found == TokensOf(word, ShortWordCache::kMaxTokens)) << word;
  return !found.empty();
}

std::vector<TokenId> FindIn(const LongWordCache& cache, const std::string& word) {
  std::vector<TokenId> out(word.size() + 1);
  const uint64_t hash = LongWordCache::HashOf(word);
  cache.PrefetchPlace(hash);
  cache.PrefetchWord(hash);
  out.resize(cache.Find(word, hash, out.data()));
  return out;
}
void PutIn(const LongWordCache& cache, const std::string& word) {
  cache.Put(word, LongWordCache::HashOf(word), TokensOf(word, word.size()));
}
bool Holds(const LongWordCache& cache, const std::string& word) {
  const std::vector<TokenId> found = FindIn(cache, word);
  EXPECT_TRUE(found.empty() || found == TokensOf(word, word.size())) << word;
  return !found.empty();
}

TEST(ShortWordCacheTest, KeepsWordsOfEverySizeAndCount) {
  const ShortWordCache cache;
  for (size_t size = 1; size <= WordKey::kMaxBytes; ++size) {
    for (size_t count = 1; count <= ShortWordCache::kMaxTokens; ++count) {
      const std::string word(size, static_cast<char>('a' + count));
      const WordKey key = WordKey::Of(word);
      std::vector<TokenId> tokens(count, (1u << 22) - 1);
      tokens.back() = static_cast<TokenId>(size);
      EXPECT_TRUE(FindIn(cache, word).empty());
      cache.Put(key, key.Hash(), tokens);
      EXPECT_THAT(FindIn(cache, word), ElementsAreArray(tokens));
    }
  }
}

TEST(ShortWordCacheTest, LeavesOutWhatItHasNoRoomFor) {
  const ShortWordCache cache;
  const WordKey key = WordKey::Of("word");
  const std::vector<TokenId> tokens(ShortWordCache::kMaxTokens + 1, 7);
  cache.Put(key, key.Hash(), tokens);
  cache.Put(key, key.Hash(), {});
  EXPECT_TRUE(FindIn(cache, "word").empty());
}

TEST(ShortWordCacheTest, NeverTakesOneWordForAnotherWhenItIsFull) {
  const ShortWordCache cache;
  size_t found = 0;
  for (int i = 0; i < 200'000; ++i) PutIn(cache, std::to_string(i));
  for (int i = 0; i < 200'000; ++i) found += Holds(cache, std::to_string(i)) ? 1 : 0;
  EXPECT_GT(found, 50'000u);
}

TEST(LongWordCacheTest, KeepsWordsOfEverySizeAndCount) {
  const LongWordCache cache;
  for (size_t size = 1; size <= LongWordCache::kMaxBytes; ++size) {
    const std::string word(size, 'x');
    EXPECT_FALSE(Holds(cache, word));
    PutIn(cache, word);
    EXPECT_TRUE(Holds(cache, word)) << size;
    std::string other = word;
    other[size / 2] = 'y';
    EXPECT_FALSE(Holds(cache, other));
  }
}

TEST(LongWordCacheTest, LeavesOutWhatItHasNoRoomFor) {
  const LongWordCache cache;
  const std::string word(LongWordCache::kMaxBytes + 1, 'x');
  PutIn(cache, word);
  EXPECT_FALSE(Holds(cache, word));
  cache.Put("short", LongWordCache::HashOf("short"), std::vector<TokenId>(6, 7));
  EXPECT_TRUE(FindIn(cache, "short").empty());
}

TEST(LongWordCacheTest, KeepsTheNewestWhenTheRingHasComeRound) {
  const LongWordCache cache;
  const auto word = [](int i) { return std::to_string(i) + std::string(90 + i % 100, 'x'); };
  constexpr int kWords = 200'000;  // some 80 MiB
  for (int i = 0; i < kWords; ++i) PutIn(cache, word(i));
  int newest = 0;
  for (int i = 0; i < kWords; ++i) {
    const bool found = Holds(cache, word(i));
    EXPECT_FALSE(found && i < kWords / 2) << i;
    newest += found && i >= kWords - 20'000 ? 1 : 0;
  }
  EXPECT_GT(newest, 19'000);
}

// Few words in few places, so that reads and writes meet.
template <typename Cache>
void ShareAmongThreads(size_t padding) {
  const Cache cache;
  std::atomic<size_t> found = 0;
  const auto run = [&](uint32_t seed) {
    std::mt19937 chance(seed);
    for (int i = 0; i < 100'000; ++i) {
      const std::string word = std::to_string(chance() % 3000) + std::string(padding, 'x');
      if (Holds(cache, word)) {
        found.fetch_add(1, std::memory_order_relaxed);
      }
      if (chance() % 4 == 0) PutIn(cache, word);
    }
  };
  std::vector<std::jthread> threads;
  for (uint32_t seed = 0; seed < 4; ++seed) threads.emplace_back(run, seed);
  threads.clear();
  EXPECT_GT(found.load(), 100'000u);
}

TEST(ShortWordCacheTest, IsRightAmongThreads) { ShareAmongThreads<ShortWordCache>(5); }
TEST(LongWordCacheTest, IsRightAmongThreads) { ShareAmongThreads<LongWordCache>(200); }

}  // namespace
}  // namespace mili::text

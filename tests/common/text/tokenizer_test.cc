#include "common/text/tokenizer.h"

#include <atomic>
#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/text/nfc.h"
#include "tests/common/text/test_tokenizers.h"

namespace mili::text {
namespace {

TEST(TokenizerTest, ReadsInvalidUtf8AsReplacementCharacters) {
  for (const std::string& name : TestTokenizerNames()) {
    const auto tokenizer = LoadTestTokenizer(name);
    EXPECT_EQ(tokenizer->Encode("a\xE2\x82z\xFF\xED\xA0\x80", {}),
              tokenizer->Encode("a\uFFFDz\uFFFD\uFFFD\uFFFD\uFFFD", {}));
  }
}

TEST(TokenizerTest, GivesEachTokenItsSpellingAndItsBytes) {
  const auto tokenizer = LoadTestTokenizer("llama3");
  const TokenId space = *tokenizer->Find("\u0120");  // the byte-level space
  EXPECT_EQ(tokenizer->SpellingOf(space), "\u0120");
  EXPECT_EQ(tokenizer->BytesOf(space), " ");
  const TokenId bos = *tokenizer->Find("<|begin_of_text|>");
  EXPECT_EQ(tokenizer->BytesOf(bos), "<|begin_of_text|>");
  EXPECT_TRUE(tokenizer->IsSpecial(bos));
  EXPECT_FALSE(tokenizer->IsSpecial(space));
  EXPECT_FALSE(tokenizer->Find("no such token").has_value());
}

TEST(TokenizerTest, KnowsNothingOfIdsOutOfRange) {
  const auto tokenizer = LoadTestTokenizer("qwen");
  for (const TokenId id : {tokenizer->vocab_size(), UINT32_MAX}) {
    EXPECT_EQ(tokenizer->BytesOf(id), "");
    EXPECT_EQ(tokenizer->SpellingOf(id), "");
    EXPECT_FALSE(tokenizer->IsSpecial(id));
    EXPECT_EQ(tokenizer->Decode(std::vector<TokenId>{id}, false), "");
  }
}

TEST(TokenizerTest, FindsEveryTokenBySpelling) {
  for (const std::string& name : TestTokenizerNames()) {
    const auto tokenizer = LoadTestTokenizer(name);
    for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
      EXPECT_EQ(tokenizer->Find(tokenizer->SpellingOf(id)), id);
    }
  }
}

TEST(TokenizerTest, KeepsControlTextOfUsersAsText) {
  const auto tokenizer = LoadTestTokenizer("qwen");
  const std::string text = "<|im_end|><think>";
  const auto ids = tokenizer->Encode(text, {.parse_special = false});
  EXPECT_THAT(ids, testing::Not(testing::Contains(*tokenizer->Find("<|im_end|>"))));
  EXPECT_EQ(ids.back(), *tokenizer->Find("<think>"));  // an added token that is not special
  EXPECT_EQ(tokenizer->Decode(ids, true), text);
}

TEST(TokenizerTest, NormalizesLongTextsPieceByPieceAsAWhole) {
  const auto tokenizer = LoadTestTokenizer("qwen");
  const std::string parts[] = {"e\u0301t\u00E9 ", "\n\u0301",     "a\u0323\u0307\n", "\r\n",
                               "caf\u00E9\n",     "\u1100\u1161", "\n  b "};
  std::mt19937 chance(9);
  std::string text;
  while (text.size() < 400'000) text += parts[chance() % std::size(parts)];
  const std::string normal = Nfc().Normalize(text);
  const std::vector<TokenId> ids = tokenizer->Encode(text, {});
  EXPECT_EQ(ids, tokenizer->Encode(normal, {}));
  EXPECT_EQ(tokenizer->Decode(ids, /*skip_special_tokens=*/false), normal);
}

TEST(TokenizerTest, EncodesAMillionBytesWithoutASpaceWithoutQuadraticTime) {
  for (const std::string& name : TestTokenizerNames()) {
    const auto tokenizer = LoadTestTokenizer(name);
    for (const char c : {'a', ' ', '\n', '!', '1', '<'}) {
      const std::string text(1'000'000, c);
      EXPECT_FALSE(tokenizer->Encode(text, {}).empty());
    }
  }
}

TEST(TokenizerTest, EncodesAndDecodesOnManyThreadsAtOnce) {
  const auto tokenizer = LoadTestTokenizer("qwen");
  const std::vector<Golden> goldens = ReadGoldens("qwen");
  std::atomic<int> num_wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        for (const Golden& golden : goldens) {
          if (tokenizer->Encode(golden.text, golden.options) != golden.ids) ++num_wrong;
          if (tokenizer->Decode(golden.ids, true) != golden.skipped) ++num_wrong;
        }
      });
    }
  }
  EXPECT_EQ(num_wrong, 0);
}

// What one thread remembers the others find; whatever they meet, the ids are the same.
TEST(SharedTokenizerTest, GivesTheSameIdsToAllThreads) {
  const std::unique_ptr<Tokenizer> tokenizer = LoadTestTokenizer("qwen");
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> expected;
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (int j = 0; j < 40; ++j) text += " word" + std::string(1 + (i * j) % 30, 'a' + j % 26);
    expected.push_back(LoadTestTokenizer("qwen")->Encode(text, {}));
    texts.push_back(std::move(text));
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < texts.size(); ++i) {
        const size_t at = (i + 50 * t) % texts.size();
        EXPECT_EQ(tokenizer->Encode(texts[at], {}), expected[at]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace mili::text

#include <random>

#include <gtest/gtest.h>

#include "common/text/tokenizer.h"
#include "common/text/utf8.h"
#include "tests/common/text/test_tokenizers.h"

namespace mili::text {
namespace {

std::vector<TokenId> Ids(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.Encode(text, {});
}

std::string Pushed(IncrementalDetokenizer& detokenizer, TokenId id) {
  std::string text;
  detokenizer.Push(id, text);
  return text;
}

std::string Flushed(IncrementalDetokenizer& detokenizer) {
  std::string text;
  detokenizer.Flush(text);
  return text;
}

TEST(IncrementalDetokenizerTest, HoldsBackHalfACodePoint) {
  const auto tokenizer = LoadTestTokenizer("smollm");
  const std::vector<TokenId> ids = Ids(*tokenizer, "\U0010FFFD");  // in no merge: four bytes
  ASSERT_EQ(ids.size(), 4u);
  IncrementalDetokenizer detokenizer(*tokenizer, false);
  EXPECT_EQ(Pushed(detokenizer, ids[0]), "");
  EXPECT_EQ(Pushed(detokenizer, ids[1]), "");
  EXPECT_EQ(Pushed(detokenizer, ids[2]), "");
  EXPECT_EQ(Pushed(detokenizer, ids[3]), "\U0010FFFD");
  EXPECT_EQ(Flushed(detokenizer), "");
}

TEST(IncrementalDetokenizerTest, FlushesWhatNeverBecameACodePoint) {
  const auto tokenizer = LoadTestTokenizer("smollm");
  const std::vector<TokenId> ids = Ids(*tokenizer, "\U0010FFFD");
  IncrementalDetokenizer detokenizer(*tokenizer, false);
  EXPECT_EQ(Pushed(detokenizer, ids[0]), "");
  EXPECT_EQ(Pushed(detokenizer, ids[1]), "");
  EXPECT_EQ(Flushed(detokenizer), "\uFFFD");
  EXPECT_EQ(Flushed(detokenizer), "");
}

TEST(IncrementalDetokenizerTest, ReplacesASequenceThatATokenBreaks) {
  const auto tokenizer = LoadTestTokenizer("smollm");
  const std::vector<TokenId> ids = Ids(*tokenizer, "\U0010FFFD");
  IncrementalDetokenizer detokenizer(*tokenizer, false);
  EXPECT_EQ(Pushed(detokenizer, ids[0]), "");
  EXPECT_EQ(Pushed(detokenizer, Ids(*tokenizer, "a")[0]),
            "\uFFFD"
            "a");
}

TEST(IncrementalDetokenizerTest, SkipsSpecialTokensInsideACodePoint) {
  const auto tokenizer = LoadTestTokenizer("smollm");
  std::vector<TokenId> ids = Ids(*tokenizer, "\U0010FFFD");
  ids.insert(ids.begin() + 2, *tokenizer->Find("<|im_end|>"));
  IncrementalDetokenizer skipping(*tokenizer, true);
  std::string text;
  for (const TokenId id : ids) skipping.Push(id, text);
  EXPECT_EQ(text, "\U0010FFFD");
}

TEST(IncrementalDetokenizerTest, EqualsDecodeForAnyIds) {
  std::mt19937 chance(5);
  for (const std::string& name : TestTokenizerNames()) {
    const auto tokenizer = LoadTestTokenizer(name);
    for (int trial = 0; trial < 2000; ++trial) {
      std::vector<TokenId> ids(chance() % 20);
      // Single bytes above all, which break code points; some ids that do not exist.
      for (TokenId& id : ids) id = chance() % (chance() % 4 ? 260 : tokenizer->vocab_size() + 9);
      const bool skip = chance() % 2;
      IncrementalDetokenizer detokenizer(*tokenizer, skip);
      std::string text;
      for (const TokenId id : ids) {
        detokenizer.Push(id, text);
        ASSERT_TRUE(IsValidUtf8(text));
      }
      detokenizer.Flush(text);
      ASSERT_EQ(text, tokenizer->Decode(ids, skip));
    }
  }
}

}  // namespace
}  // namespace mili::text

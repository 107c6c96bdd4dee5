#include <gtest/gtest.h>

#include "common/text/tokenizer.h"
#include "tests/common/text/test_tokenizers.h"

namespace mili::text {
namespace {

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  GoldenTest() : tokenizer_(LoadTestTokenizer(GetParam())), goldens_(ReadGoldens(GetParam())) {}

  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<Golden> goldens_;
};

TEST_P(GoldenTest, EncodesAsHuggingFaceDoes) {
  ASSERT_GT(goldens_.size(), 100u);
  for (const Golden& golden : goldens_) {
    EXPECT_EQ(tokenizer_->Encode(golden.text, golden.options), golden.ids)
        << testing::PrintToString(golden.text);
  }
}

TEST_P(GoldenTest, DecodesAsHuggingFaceDoes) {
  for (const Golden& golden : goldens_) {
    EXPECT_EQ(tokenizer_->Decode(golden.ids, /*skip_special_tokens=*/false), golden.decoded);
    EXPECT_EQ(tokenizer_->Decode(golden.ids, /*skip_special_tokens=*/true), golden.skipped);
  }
}

TEST_P(GoldenTest, DetokenizesTokenByTokenToTheSameText) {
  for (const Golden& golden : goldens_) {
    for (const bool skip : {false, true}) {
      IncrementalDetokenizer detokenizer(*tokenizer_, skip);
      std::string text;
      for (const TokenId id : golden.ids) detokenizer.Push(id, text);
      detokenizer.Flush(text);
      EXPECT_EQ(text, skip ? golden.skipped : golden.decoded);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest, testing::ValuesIn(TestTokenizerNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mili::text

// Texts made to be slow: time stays linear in them. Bounds are ten times and more what an idle
// machine needs; what is quadratic takes hours.
#include <chrono>

#include <gtest/gtest.h>

#include "tests/common/text/test_tokenizers.h"

namespace mili::text {
namespace {

constexpr size_t kBytes = 8'000'000;

std::string Repeated(std::string_view unit) {
  std::string text;
  while (text.size() < kBytes) text += unit;
  return text;
}

class WorstCaseTest : public testing::TestWithParam<std::string> {
 protected:
  // Encodes, counts and decodes, each within the bound.
  void ExpectLinear(const std::string& text) {
    constexpr std::chrono::seconds kBound(10);
    const auto start = std::chrono::steady_clock::now();
    const std::vector<TokenId> ids = tokenizer_->Encode(text, {});
    EXPECT_LT(std::chrono::steady_clock::now() - start, kBound);
    EXPECT_EQ(tokenizer_->Count(text, {}), ids.size());
    EXPECT_FALSE(tokenizer_->Decode(ids, /*skip_special_tokens=*/false).empty());
    EXPECT_LT(std::chrono::steady_clock::now() - start, 3 * kBound);
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = LoadTestTokenizer(GetParam());
};

TEST_P(WorstCaseTest, OneLetter) { ExpectLinear(Repeated("a")); }
TEST_P(WorstCaseTest, Spaces) { ExpectLinear(Repeated(" ")); }
TEST_P(WorstCaseTest, LineEnds) { ExpectLinear(Repeated("\n ")); }
TEST_P(WorstCaseTest, OneEmoji) { ExpectLinear(Repeated("\U0001F642")); }
TEST_P(WorstCaseTest, LettersThatDoNotMerge) { ExpectLinear(Repeated("qzjxkvwqj")); }
TEST_P(WorstCaseTest, BeginningsOfSpecialTokens) { ExpectLinear(Repeated("<|endoftex<|<")); }
TEST_P(WorstCaseTest, CombiningMarks) { ExpectLinear("a" + Repeated("\u0301\u0323")); }
TEST_P(WorstCaseTest, BytesThatAreNoText) { ExpectLinear(Repeated("\xE6\xFF")); }

INSTANTIATE_TEST_SUITE_P(Tokenizers, WorstCaseTest, testing::Values("qwen", "partial"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mili::text

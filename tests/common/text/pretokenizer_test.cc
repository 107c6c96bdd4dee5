#include "common/text/pretokenizer.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/text/utf8.h"

namespace mili::text {
namespace {

using testing::ElementsAre;

std::vector<std::string> Words(std::vector<SplitStep> steps, std::string_view text) {
  std::vector<std::string> words;
  PreTokenizer(std::move(steps))
      .Split(text, [&](std::span<const std::string_view> batch, const char*) {
        words.insert(words.end(), batch.begin(), batch.end());
      });
  return words;
}

TEST(Gpt2PatternTest, PutsASpaceInFrontOfWordsNumbersAndSigns) {
  EXPECT_THAT(Words({SplitStep::kGpt2}, "The 42 dogs, no?! 'a"),
              ElementsAre("The", " 42", " dogs", ",", " no", "?!", " '", "a"));
}

TEST(Gpt2PatternTest, KnowsContractionsInSmallLettersOnly) {
  EXPECT_THAT(Words({SplitStep::kGpt2}, "we'll I'VE it's'd"),
              ElementsAre("we", "'ll", " I", "'", "VE", " it", "'s", "'d"));
}

TEST(Gpt2PatternTest, LeavesTheLastSpaceOfARunToTheWordBehindIt) {
  EXPECT_THAT(Words({SplitStep::kGpt2}, "a   b\n\nc  "),
              ElementsAre("a", "  ", " b", "\n", "\n", "c", "  "));
  EXPECT_THAT(Words({SplitStep::kGpt2}, "\u3000\u3000x"), ElementsAre("\u3000", "\u3000", "x"));
}

TEST(Qwen2PatternTest, TakesOneSignWithAWordAndOneDigitAWord) {
  EXPECT_THAT(Words({SplitStep::kQwen2}, "(foo) 123\tbar"),
              ElementsAre("(foo", ")", " ", "1", "2", "3", "\tbar"));
}

TEST(Qwen2PatternTest, KnowsContractionsInAnyCaseAndWithALongS) {
  EXPECT_THAT(Words({SplitStep::kQwen2}, "I'LL it'\u017Fx 'Re"),
              ElementsAre("I", "'LL", " it", "'\u017F", "x", " '", "Re"));
  EXPECT_THAT(Words({SplitStep::kQwen2}, "'tis it'rx it'lx it'vE"),
              ElementsAre("'t", "is", " it", "'rx", " it", "'lx", " it", "'vE"));
}

TEST(Qwen2PatternTest, KeepsLineEndsTogetherWithWhatStandsBefore) {
  EXPECT_THAT(Words({SplitStep::kQwen2}, "a;\r\n\r\n  b \n \n  c"),
              ElementsAre("a", ";\r\n\r\n", " ", " b", " \n \n", " ", " c"));
}

TEST(Qwen2PatternTest, EndsAWordAtEitherLineEnd) {
  EXPECT_THAT(Words({SplitStep::kQwen2}, "a\nb\rc"), ElementsAre("a", "\n", "b", "\r", "c"));
  EXPECT_THAT(Words({SplitStep::kQwen2}, "a \r  b"), ElementsAre("a", " \r", " ", " b"));
}

TEST(Llama3PatternTest, TakesUpToThreeDigitsAWord) {
  EXPECT_THAT(Words({SplitStep::kLlama3}, "1234567x १२३४"),
              ElementsAre("123", "456", "7", "x", " ", "१२३", "४"));
}

TEST(DigitsTest, EndsASpaceRunAtADigit) {
  EXPECT_THAT(Words({SplitStep::kIndividualDigits, SplitStep::kGpt2}, "a  12"),
              ElementsAre("a", "  ", "1", "2"));
  EXPECT_THAT(Words({SplitStep::kContiguousDigits, SplitStep::kGpt2}, "a 12b"),
              ElementsAre("a", " ", "12", "b"));
}

TEST(DigitsTest, KnowsDigitsThatThePatternsDoNotKnowYet) {
  // U+11DE0, new in Unicode 17: a digit for Rust's standard library, not for Oniguruma.
  EXPECT_THAT(Words({SplitStep::kIndividualDigits}, "a\U00011DE0b"),
              ElementsAre("a", "\U00011DE0", "b"));
  EXPECT_THAT(Words({SplitStep::kQwen2}, "a\U00011DE0!"), ElementsAre("a", "\U00011DE0!"));
}

TEST(PrefixSpaceTest, IsPutBeforeTextThatHasNone) {
  EXPECT_THAT(Words({SplitStep::kPrefixSpace, SplitStep::kGpt2}, "a b"), ElementsAre(" a", " b"));
  EXPECT_THAT(Words({SplitStep::kPrefixSpace, SplitStep::kGpt2}, " a"), ElementsAre(" a"));
  EXPECT_THAT(Words({SplitStep::kPrefixSpace, SplitStep::kGpt2}, ""), ElementsAre());
}

TEST(SpacesTest, HaveNextLineButNotZeroWidthSpaceOrFileSeparator) {
  EXPECT_THAT(Words({SplitStep::kQwen2}, "a\u0085\u0085b"), ElementsAre("a", "\u0085", "\u0085b"));
  EXPECT_THAT(Words({SplitStep::kQwen2}, "a\u200B\x1C "), ElementsAre("a", "\u200B\x1C", " "));
}

TEST(PreTokenizerTest, LeavesNothingOut) {
  std::string text;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c < 0xD800 || c >= 0xE000) AppendCodePoint(c, text);
  }
  for (const SplitStep step : {SplitStep::kGpt2, SplitStep::kQwen2, SplitStep::kLlama3,
                               SplitStep::kIndividualDigits, SplitStep::kContiguousDigits}) {
    std::string joined;
    PreTokenizer({step}).Split(text, [&](std::span<const std::string_view> batch, const char*) {
      for (const std::string_view word : batch) {
        EXPECT_FALSE(word.empty());
        joined.append(word);
      }
    });
    EXPECT_EQ(joined, text);
  }
}

TEST(PreTokenizerTest, IsLinearInTextWithoutWords) {
  for (const std::string_view unit : {" ", "\n ", "a", "'", "\u3000", "1"}) {
    std::string text;
    while (text.size() < 4'000'000) text += unit;
    for (const SplitStep step : {SplitStep::kGpt2, SplitStep::kQwen2, SplitStep::kLlama3}) {
      size_t size = 0;
      PreTokenizer({step}).Split(text, [&](std::span<const std::string_view> batch, const char*) {
        for (const std::string_view word : batch) size += word.size();
      });
      EXPECT_EQ(size, text.size());
    }
  }
}

class FrontTest : public testing::TestWithParam<std::vector<SplitStep>> {};

TEST_P(FrontTest, HasTheWordsThatItHasInTheWhole) {
  const PreTokenizer pre_tokenizer(GetParam());
  const std::vector<std::string> parts = {"a",      "\n",     "\n",     " ",      "\r",
                                          "\r\n",   "!",      "7",      "'",      "s",
                                          "\u3000", "\u0085", "\u0301", "\u00E9", "\t"};
  std::mt19937 chance(8);
  int num_cut = 0;
  for (int trial = 0; trial < 4'000; ++trial) {
    std::string text;
    for (size_t left = 1 + chance() % 20; left > 0; --left) text += parts[chance() % parts.size()];
    const size_t min_bytes = chance() % 8;
    const size_t size = pre_tokenizer.SizeOfFront(text, min_bytes);
    ASSERT_GE(size, std::min(min_bytes, text.size()));
    num_cut += size < text.size() ? 1 : 0;
    std::vector<std::string> words = Words(GetParam(), text.substr(0, size));
    const std::vector<std::string> rest = Words(GetParam(), text.substr(size));
    words.insert(words.end(), rest.begin(), rest.end());
    ASSERT_EQ(words, Words(GetParam(), text)) << text;
  }
  EXPECT_GT(num_cut, 600);
}

INSTANTIATE_TEST_SUITE_P(
    Steps, FrontTest,
    testing::Values(std::vector{SplitStep::kGpt2}, std::vector{SplitStep::kQwen2},
                    std::vector{SplitStep::kLlama3},
                    std::vector{SplitStep::kIndividualDigits, SplitStep::kGpt2},
                    std::vector{SplitStep::kContiguousDigits, SplitStep::kQwen2},
                    std::vector{SplitStep::kGpt2, SplitStep::kLlama3}));

TEST(PreTokenizerTest, TakesNoFrontWhereTheWholeCounts) {
  for (const std::vector<SplitStep>& steps : {std::vector<SplitStep>{},
                                              {SplitStep::kPrefixSpace, SplitStep::kGpt2},
                                              {SplitStep::kContiguousDigits}}) {
    EXPECT_EQ(PreTokenizer(steps).SizeOfFront("a\nb\nc", 1), 5u);
  }
}

TEST(StepOfPatternTest, KnowsNoPatternThatIsAlmostOneOfThem) {
  EXPECT_FALSE(StepOfPattern("").has_value());
  EXPECT_FALSE(StepOfPattern(R"(\s+(?!\S)|\s+)").has_value());
  EXPECT_EQ(StepOfPattern(
                R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"),
            SplitStep::kGpt2);
}

}  // namespace
}  // namespace mili::text

#include "common/text/word_blocks.h"

#include <random>

#include <gtest/gtest.h>

#include "common/text/ascii_block.h"
#include "common/text/ascii_masks.h"
#include "tests/common/text/plain_words.h"

namespace mili::text {
namespace {

std::vector<std::string> Words(SplitStep step, std::string_view text) {
  std::vector<std::string> words;
  PreTokenizer({step}).Split(text, [&](std::span<const std::string_view> batch, const char*) {
    words.insert(words.end(), batch.begin(), batch.end());
  });
  return words;
}

class WordBlocksTest : public testing::TestWithParam<SplitStep> {};

TEST_P(WordBlocksTest, CutAsThePatternReadLiterally) {
  // Each weighs as often as it stands here; what is rare ends blocks at every place.
  const std::vector<std::string> parts = {
      "a",  "b",    "s",    "t",  "re", "ll", "VE",  "d",      "Q",      " ",      " ",   " ", "  ",
      "\n", "\r\n", "\t",   "'",  "'",  "'s", "'LL", "1",      "2",      "3",      "45",  ".", "((",
      "-",  "_",    "\x1c", "\v", "é",  "漢", "٣",   "\u017F", "\u3000", "\u0085", "🙂"};
  std::mt19937 chance(5);
  for (int trial = 0; trial < 20'000; ++trial) {
    const size_t num_parts = trial % 3 == 0 ? 28 : parts.size();  // a third of ASCII alone
    std::string text;
    const size_t size = chance() % 300;
    while (text.size() < size) text += parts[chance() % num_parts];
    ASSERT_EQ(Words(GetParam(), text), PlainWords(GetParam(), text)) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, WordBlocksTest,
                         testing::Values(SplitStep::kGpt2, SplitStep::kQwen2, SplitStep::kLlama3));

TEST(AsciiBlockTest, KnowsTheSameClassesWithAndWithoutVectorInstructions) {
  std::mt19937 chance(6);
  for (int trial = 0; trial < 100'000; ++trial) {
    char bytes[kBlockBytes];
    for (char& byte : bytes) {
      byte =
          static_cast<char>(trial % 2 == 0 ? chance() : "\t\r\n aZz@[`{09/:'\x7f"[chance() % 18]);
    }
    const AsciiBlock block(bytes);
    const PortableBlock plain(bytes);
    ASSERT_EQ(block.NotAscii(), plain.NotAscii());
    ASSERT_EQ(block.Letters(), plain.Letters());
    ASSERT_EQ(block.Digits(), plain.Digits());
    ASSERT_EQ(block.Spaces(), plain.Spaces());
    ASSERT_EQ(block.Newlines(), plain.Newlines());
    ASSERT_EQ(block.Controls(), plain.Controls());
    ASSERT_EQ(block.Are('\''), plain.Are('\''));
  }
}

TEST(AsciiMasksTest, AreTheSameWhateverTheCpuHas) {
  std::mt19937 chance(7);
  for (int trial = 0; trial < 100'000; ++trial) {
    char bytes[64];
    for (char& byte : bytes) {
      byte =
          static_cast<char>(trial % 2 == 0 ? chance() : "\t\r\n aZz@[`{09/:'\x7f"[chance() % 18]);
    }
    ASSERT_EQ(AsciiMasksOf(bytes), AsciiMasksByBlocks(bytes));
  }
}

TEST(AsciiBlockTest, FindsTheFirstByteThatIsNotBelow) {
  for (size_t size : {0, 1, 15, 16, 17, 40}) {
    const std::string text(size, '\x7f');
    EXPECT_EQ(FindByteFrom(text.data(), text.data() + size, 0x80), text.data() + size);
    for (size_t at = 0; at < size; ++at) {
      std::string other = text;
      other[at] = '\x80';
      EXPECT_EQ(FindByteFrom(other.data(), other.data() + size, 0x80), other.data() + at);
      EXPECT_EQ(FindByteFrom(other.data(), other.data() + size, 0x81), other.data() + size);
    }
  }
}

}  // namespace
}  // namespace mili::text

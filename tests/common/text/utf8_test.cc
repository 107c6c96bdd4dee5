#include "common/text/utf8.h"

#include <gtest/gtest.h>

#include "common/text/utf8_vectors.h"

namespace mili::text {
namespace {

std::string Lossy(std::string_view bytes) {
  std::string out;
  AppendLossy(bytes, out);
  return out;
}

TEST(Utf8Test, KeepsValidTextOfEveryLength) {
  const std::string_view text =
      "a\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEF\xBF\xBF\xF4\x8F\xBF\xBF";
  EXPECT_TRUE(IsValidUtf8(text));
  EXPECT_EQ(Lossy(text), text);
}

TEST(Utf8Test, JudgesAllNeighboursAlikeByVectorsAndByBytes) {
  if (!HasUtf8Vectors()) GTEST_SKIP() << "this CPU has no AVX2";
  // The ends of every range that section 3.9 of the standard tells apart.
  const std::string_view ends =
      "\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5"
      "\xFF";
  const size_t num_texts = ends.size() * ends.size() * ends.size() * ends.size();
  size_t num_valid = 0;
  for (const size_t place : {0, 29, 30, 31, 63}) {
    std::string text = std::string(place, 'x') + "....";
    std::string longer = text + std::string(64, 'y');
    for (size_t n = 0; n < num_texts; ++n) {
      for (size_t i = 0, digits = n; i < 4; ++i, digits /= ends.size()) {
        text[place + i] = longer[place + i] = ends[digits % ends.size()];
      }
      const bool valid = IsValidUtf8ByBytes(text);
      ASSERT_EQ(IsValidUtf8ByVectors(text), valid) << testing::PrintToString(text);
      ASSERT_EQ(IsValidUtf8ByVectors(longer), valid) << testing::PrintToString(longer);
      num_valid += valid ? 1 : 0;
    }
  }
  EXPECT_GT(num_valid, 1000u);
}

TEST(Utf8Test, ReplacesEachMaximalSubpartOnce) {
  // Expected values: Python's bytes.decode("utf-8", "replace").
  const std::string r(kReplacement);
  EXPECT_EQ(Lossy("\x80"), r);
  EXPECT_EQ(Lossy("\xC0\xAF"), r + r);                  // overlong
  EXPECT_EQ(Lossy("\xE0\x80\x80"), r + r + r);          // overlong
  EXPECT_EQ(Lossy("\xED\xA0\x80"), r + r + r);          // a surrogate
  EXPECT_EQ(Lossy("\xF4\x90\x80\x80"), r + r + r + r);  // above U+10FFFF
  EXPECT_EQ(Lossy("\xF5\xFF"), r + r);                  // no lead bytes
  EXPECT_EQ(Lossy("\xE2\x82"), r);                      // cut off
  EXPECT_EQ(Lossy("\xF0\x9F\x98"), r);                  // cut off
  EXPECT_EQ(Lossy("\xF0\x9F\x98z"), r + "z");
  EXPECT_EQ(Lossy("\xE2\x82\xE2\x82\xAC"), r + "\xE2\x82\xAC");
  EXPECT_EQ(Lossy(std::string_view("a\0\xFF", 3)), std::string("a\0", 2) + r);
}

TEST(Utf8Test, SeesWhatMayStillBecomeACodePoint) {
  EXPECT_EQ(TruncatedTail(""), 0u);
  EXPECT_EQ(TruncatedTail("abc"), 0u);
  EXPECT_EQ(TruncatedTail("a\xE2"), 1u);
  EXPECT_EQ(TruncatedTail("a\xE2\x82"), 2u);
  EXPECT_EQ(TruncatedTail("a\xE2\x82\xAC"), 0u);
  EXPECT_EQ(TruncatedTail("\xF0\x9F\x98"), 3u);
  EXPECT_EQ(TruncatedTail("\xF0\x9F\x98\x80"), 0u);
  EXPECT_EQ(TruncatedTail("\x80\x80\x80"), 0u);  // no lead byte: nothing can mend it
  EXPECT_EQ(TruncatedTail("\xE0\x80"), 0u);      // already wrong
  EXPECT_EQ(TruncatedTail("\xC3\xC3"), 1u);
}

TEST(Utf8Test, ReadsBackEveryCodePointItWrites) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text = "x";
    AppendCodePoint(c, text);
    ASSERT_TRUE(IsValidUtf8(text)) << c;
    EXPECT_EQ(DecodeAt(text.data() + 1).value, c);
    EXPECT_EQ(DecodeBefore(text, text.size()).value, c);
    EXPECT_EQ(DecodeBefore(text, text.size()).size_bytes, text.size() - 1);
  }
}

}  // namespace
}  // namespace mili::text

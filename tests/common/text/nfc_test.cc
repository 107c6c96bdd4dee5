#include "common/text/nfc.h"

#include <gtest/gtest.h>

#include "common/text/utf8.h"

namespace mili::text {
namespace {

std::string Text(const std::u32string& code_points) {
  std::string text;
  for (const char32_t c : code_points) AppendCodePoint(c, text);
  return text;
}

class NfcTest : public testing::Test {
 protected:
  std::string Normal(const std::u32string& code_points) {
    return nfc_.Normalize(Text(code_points));
  }
  const Nfc nfc_;
};

TEST_F(NfcTest, ComposesMarksWithTheirLetter) {
  EXPECT_EQ(Normal(U"e\u0301"), Text(U"é"));
  EXPECT_EQ(Normal(U"a\u0323\u0302"), Text(U"\u1EAD"));
  EXPECT_EQ(Normal(U"a\u0302\u0323"), Text(U"\u1EAD"));  // after the marks are sorted
  EXPECT_EQ(Normal(U"\u00E9"), Text(U"é"));
}

TEST_F(NfcTest, LeavesAMarkThatAnotherOfItsClassBlocks) {
  EXPECT_EQ(Normal(U"a\u0315\u0300\u05AE\u0300b"), Text(U"\u00E0\u05AE\u0300\u0315b"));
  EXPECT_EQ(Normal(U"a\u0332\u0332\u0301"), Text(U"\u00E1\u0332\u0332"));
  EXPECT_EQ(Normal(U"\u0B47\u0300\u0B3E"), Text(U"\u0B47\u0300\u0B3E"));
}

TEST_F(NfcTest, CopiesNothingOfATextThatIsNormal) {
  // Marks that compose with nothing here: each had to be looked at.
  const std::string text = Text(U"plain \u0E01\u0E38 b\u0301 \u062A\u064E");
  std::string out;
  EXPECT_FALSE(nfc_.NormalizeTo(out, text));
  EXPECT_EQ(out, "");
  EXPECT_TRUE(nfc_.NormalizeTo(out, text + "e\u0301" + text + "a\u0302" + text));
  EXPECT_EQ(out, text + "é" + text + "â" + text);
}

TEST_F(NfcTest, ComposesHangulByArithmetic) {
  EXPECT_EQ(Normal(U"\u1100\u1161"), Text(U"\uAC00"));
  EXPECT_EQ(Normal(U"\u1100\u1161\u11A8"), Text(U"\uAC01"));
  EXPECT_EQ(Normal(U"\uAC00\u11A8"), Text(U"\uAC01"));
  EXPECT_EQ(Normal(U"\uAC01\u11A8"), Text(U"\uAC01\u11A8"));  // has its final already
  EXPECT_EQ(Normal(U"\uAC00\u11A7"), Text(U"\uAC00\u11A7"));  // U+11A7 is no final
}

TEST_F(NfcTest, TakesApartWhatMustNotBeComposed) {
  EXPECT_EQ(Normal(U"\u0344"), Text(U"\u0308\u0301"));
  EXPECT_EQ(Normal(U"\uFB2C"), Text(U"\u05E9\u05BC\u05C1"));
  EXPECT_EQ(Normal(U"\u2126\u212B"), Text(U"\u03A9\u00C5"));
  EXPECT_EQ(Normal(U"\U0001D15E"), Text(U"\U0001D157\U0001D165"));
}

TEST_F(NfcTest, FindsWhatMayChange) {
  const std::string plain = Text(U"plain, é, 漢字, 안녕, 🙂");
  EXPECT_EQ(nfc_.FindEvent(plain), plain.size());
  EXPECT_EQ(nfc_.FindEvent(plain + Text(U"\u0301 and more")), plain.size());
  for (const auto& text : {U"e\u0301", U"\u1100\u1161", U"\u0344", U"\u212B", U"\u0327\u0301"}) {
    EXPECT_LT(nfc_.FindEvent(Text(text)), Text(text).size());
  }
}

TEST_F(NfcTest, FindsItAtEveryPlaceAndDistanceFromTheEnd) {
  for (const auto& [base, mark] : {std::pair(U"e", U"\u0301"), std::pair(U"か", U"\u3099")}) {
    for (size_t before = 0; before < 140; ++before) {
      for (const size_t behind : {0, 1, 60, 61, 62, 63, 64, 65, 130}) {
        const std::string front = std::string(before, 'x') + Text(base);
        const std::string text = front + Text(mark) + std::string(behind, 'y');
        ASSERT_EQ(nfc_.FindEvent(text), front.size()) << before << " " << behind;
      }
    }
  }
}

TEST_F(NfcTest, IsStableOverEveryCodePointAndChangesNothingWhereItFindsNoEvent) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string once = Normal({U'a', c, U'\u0301'});
    ASSERT_EQ(nfc_.Normalize(once), once) << static_cast<uint32_t>(c);
    const std::string alone = Text({c});
    if (nfc_.FindEvent(alone) == alone.size()) {
      ASSERT_EQ(nfc_.Normalize(alone), alone) << static_cast<uint32_t>(c);
    }
  }
}

TEST_F(NfcTest, SortsAMillionMarksWithoutQuadraticTime) {
  std::string text = "a";
  for (int i = 0; i < 500'000; ++i) text += Text(U"\u0301\u0323");
  EXPECT_TRUE(nfc_.Normalize(text).starts_with(Text(U"\u1EA1\u0323")));
}

}  // namespace
}  // namespace mili::text

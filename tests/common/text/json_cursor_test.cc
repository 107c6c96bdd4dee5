#include "common/text/json_cursor.h"

#include <gtest/gtest.h>

namespace mili::text {
namespace {

std::optional<std::string> StringOf(const std::string& json) {
  // Behind white space longer than a vector, and at the very end of the text.
  const std::string text = std::string(40, ' ') + "\n\t\r" + json;
  JsonCursor cursor(text);
  const std::optional<std::string_view> string = cursor.String();
  if (!string || !cursor.AtEnd()) return std::nullopt;
  return std::string(*string);
}

TEST(JsonCursorTest, ReadsStringsOfEveryLength) {
  for (size_t size = 0; size < 70; ++size) {
    const std::string plain(size, 'x');
    EXPECT_EQ(StringOf('"' + plain + '"'), plain);
    EXPECT_EQ(StringOf('"' + plain + "\u00e9\""), plain + "\u00e9");
    EXPECT_EQ(StringOf('"' + plain + "\\n" + plain + '"'), plain + "\n" + plain);
    EXPECT_EQ(StringOf('"' + plain), std::nullopt);
    EXPECT_EQ(StringOf('"' + plain + "\n\""), std::nullopt);
    EXPECT_EQ(StringOf('"' + plain + "\xC3\""), std::nullopt);
    EXPECT_EQ(StringOf('"' + plain + "\\\""), std::nullopt);
  }
}

TEST(JsonCursorTest, UndoesEscapes) {
  EXPECT_EQ(StringOf(R"("\"\\\/\b\f\n\r\t")"), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(StringOf(R"("\u0041\u00e9\u20AC")"), "A\u00e9\u20AC");
  EXPECT_EQ(StringOf(R"("\u0000")"), std::string(1, '\0'));
  EXPECT_EQ(StringOf(R"("\uD83D\ude00!")"), "\U0001F600!");
  for (const char* wrong : {R"("\x")", R"("\u12")", R"("\u12G4")", R"("\u+123")", R"("\ud83d")",
                            R"("\ud83dx")", R"("\ud83d\n")", R"("\ud83dA")", R"("\ude00")"}) {
    EXPECT_EQ(StringOf(wrong), std::nullopt) << wrong;
  }
}

TEST(JsonCursorTest, ReadsNumbersAsTheyAreWritten) {
  for (const std::string number : {"0", "-0", "10", "1.5", "-1.25e-3", "1E+9"}) {
    EXPECT_EQ(JsonCursor(" " + number).Number(), number);
  }
  for (const char* wrong : {"", "-", "+1", "01", ".5", "x", "1.", "1e", "1e+", "1.e3"}) {
    EXPECT_EQ(JsonCursor(wrong).Number(), std::nullopt) << wrong;
  }
}

TEST(JsonCursorTest, TellsNumbersThatFitFromThoseThatDoNot) {
  EXPECT_EQ(JsonCursor("18446744073709551615,").Unsigned(), UINT64_MAX);
  for (const char* other : {"18446744073709551616", "-1", "1.0", "1e2", "\"1\""}) {
    JsonCursor cursor(other);
    EXPECT_EQ(cursor.Unsigned(), std::nullopt) << other;
    EXPECT_EQ(cursor.position(), 0u);
  }
}

}  // namespace
}  // namespace mili::text

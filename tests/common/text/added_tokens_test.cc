#include "common/text/added_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili::text {
namespace {

using testing::ElementsAre;

// "<id>" for a token, the text itself for a stretch.
std::vector<std::string> Parts(const std::vector<AddedToken>& tokens, std::string_view text,
                               bool parse_special = true) {
  AddedTokenFinder finder;
  for (const AddedToken& token : tokens) EXPECT_TRUE(finder.Add(token, token.content));
  finder.Finish();
  std::vector<std::string> parts;
  finder.Split(
      text, parse_special, [&](std::string_view stretch) { parts.emplace_back(stretch); },
      [&](TokenId id) { parts.push_back("<" + std::to_string(id) + ">"); });
  return parts;
}

TEST(AddedTokensTest, MatchLeftmostThenLongest) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "ab"}, {.id = 2, .content = "abcd"}, {.id = 3, .content = "bcde"}};
  EXPECT_THAT(Parts(tokens, "xabcdey"), ElementsAre("x", "<2>", "ey"));
  EXPECT_THAT(Parts(tokens, "abcx"), ElementsAre("<1>", "cx"));
  EXPECT_THAT(Parts(tokens, "bcdeab"), ElementsAre("<3>", "<1>"));
  EXPECT_THAT(Parts(tokens, ""), ElementsAre());
  EXPECT_THAT(Parts({}, "ab"), ElementsAre("ab"));
}

TEST(AddedTokensTest, StripEatsTheWhiteSpaceOfItsSide) {
  EXPECT_THAT(Parts({{.id = 1, .content = "X", .lstrip = true}}, "a \n\u3000X b"),
              ElementsAre("a", "<1>", " b"));
  EXPECT_THAT(Parts({{.id = 1, .content = "X", .rstrip = true}}, "a X \t\u00A0b"),
              ElementsAre("a ", "<1>", "b"));
  EXPECT_THAT(Parts({{.id = 1, .content = "X", .lstrip = true, .rstrip = true}}, "X  X "),
              ElementsAre("<1>", "<1>"));
}

TEST(AddedTokensTest, AreFoundInWhiteSpaceThatAnotherHasEaten) {
  EXPECT_THAT(
      Parts({{.id = 1, .content = "X", .rstrip = true}, {.id = 2, .content = "  "}}, "X   a"),
      ElementsAre("<1>", "<2>", " a"));
}

TEST(AddedTokensTest, SingleWordsTouchNoWordCharacter) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "cat", .single_word = true}};
  EXPECT_THAT(Parts(tokens, "cat cat, cats (cat)"),
              ElementsAre("<1>", " ", "<1>", ", cats (", "<1>", ")"));
  for (const char* text : {"_cat", "cat1", "\u00E9cat", "cat\u0301", "\u6F22cat"}) {
    EXPECT_THAT(Parts(tokens, text), ElementsAre(text));
  }
}

TEST(AddedTokensTest, SpecialOnesStayTextIfNotParsedAndHideWhatIsInside) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "<|im|>", .special = true},
                                          {.id = 2, .content = "im"}};
  EXPECT_THAT(Parts(tokens, "a<|im|>im"), ElementsAre("a", "<1>", "<2>"));
  EXPECT_THAT(Parts(tokens, "a<|im|>im", false), ElementsAre("a<|im|>", "<2>"));
}

TEST(AddedTokensTest, AreNotAddedTwice) {
  AddedTokenFinder finder;
  EXPECT_TRUE(finder.Add({.id = 1, .content = "ab"}, "ab"));
  EXPECT_TRUE(finder.Add({.id = 2, .content = "a"}, "a"));
  EXPECT_FALSE(finder.Add({.id = 3, .content = "ab"}, "ab"));
}

TEST(AddedTokensTest, StripWithoutQuadraticTime) {
  // Every tab is a token that strips to the end of the text.
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "\t", .lstrip = true, .rstrip = true}};
  EXPECT_EQ(Parts(tokens, std::string(1'000'000, '\t')).size(), 1'000'000u);
}

}  // namespace
}  // namespace mili::text

#include "router/api/http/json_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/wire/status_wire.h"

namespace mili::router {
namespace {

using testing::HasSubstr;

absl::StatusOr<CompletionBody> Parse(const std::string& body, bool strict = false) {
  return ParseCompletion(body, Endpoint::kCompletions, strict);
}

TEST(ParseCompletionTest, ReadsEveryKindOfPrompt) {
  EXPECT_EQ(std::get<std::string>(Parse(R"({"prompt":"a"})")->spec.prompts[0]), "a");
  EXPECT_EQ(Parse(R"({"prompt":["a","b"]})")->spec.prompts.size(), 2u);
  EXPECT_EQ(std::get<std::vector<TokenId>>(Parse(R"({"prompt":[1,2]})")->spec.prompts[0]),
            (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(Parse(R"({"prompt":[[1],[2,3]]})")->spec.prompts.size(), 2u);
  EXPECT_TRUE(Parse(R"({"prompt":[]})")->spec.prompts.empty());
}

TEST(ParseCompletionTest, RefusesOtherPromptsByName) {
  for (const char* prompt : {"1", "true", "{}", "[1,\"a\"]", "[-1]", "[1.5]", "[4294967296]",
                             "[[1],{}]", "[true]", "[[\"a\"]]"}) {
    const auto parsed = Parse(std::string(R"({"prompt":)") + prompt + "}");
    ASSERT_FALSE(parsed.ok()) << prompt;
    EXPECT_EQ(FieldOf(parsed.status()), "prompt") << prompt;
  }
}

TEST(ParseCompletionTest, RefusesWrongTypesByName) {
  const std::vector<std::pair<const char*, const char*>> cases = {{"temperature", "\"1\""},
                                                                  {"temperature", "[]"},
                                                                  {"top_p", "true"},
                                                                  {"top_k", "1.5"},
                                                                  {"top_k", "\"5\""},
                                                                  {"seed", "9223372036854775808"},
                                                                  {"seed", "1e30"},
                                                                  {"n", "\"2\""},
                                                                  {"n", "2.5"},
                                                                  {"max_tokens", "1e308"},
                                                                  {"max_tokens", "{}"},
                                                                  {"stop", "1"},
                                                                  {"stop", "[1]"},
                                                                  {"stop_token_ids", "1"},
                                                                  {"stop_token_ids", "[\"a\"]"},
                                                                  {"ignore_eos", "1"},
                                                                  {"stream", "\"true\""},
                                                                  {"echo", "0"},
                                                                  {"logit_bias", "[]"},
                                                                  {"logit_bias", R"({"a":1})"},
                                                                  {"logit_bias", R"({"1":"x"})"},
                                                                  {"logprobs", "true"},
                                                                  {"priority", "\"1\""},
                                                                  {"model", "1"},
                                                                  {"suffix", "\"x\""},
                                                                  {"best_of", "3"},
                                                                  {"response_format", "1"},
                                                                  {"stream_options", "1"}};
  for (const auto& [field, value] : cases) {
    const auto parsed = Parse(std::string(R"({"prompt":"a",")") + field + "\":" + value + "}");
    ASSERT_FALSE(parsed.ok()) << field << " " << value;
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(FieldOf(parsed.status()), field) << value;
  }
}

TEST(ParseCompletionTest, NullIsAbsent) {
  const auto parsed = Parse(
      R"({"prompt":"a","temperature":null,"stop":null,"n":null,"stream_options":null,"seed":null})");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_FALSE(parsed->spec.temperature.has_value());
  EXPECT_TRUE(parsed->ignored.empty());
}

TEST(ParseCompletionTest, ConstraintsAreCarriedForTheirRefusal) {
  EXPECT_EQ(Parse(R"({"prompt":"a","guided_regex":"x"})")->spec.constraint, "guided_regex");
  EXPECT_EQ(Parse(R"({"prompt":"a","response_format":{"type":"json_object"}})")->spec.constraint,
            "response_format");
  EXPECT_EQ(Parse(R"({"prompt":"a","response_format":{"type":"text"}})")->spec.constraint, "");
}

TEST(ParseCompletionTest, BrokenJsonSaysWhere) {
  const auto parsed = Parse(R"({"prompt":"a",})");
  ASSERT_FALSE(parsed.ok());
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("column 15"));
  for (const char* body : {"", "[]", "1", "nul", "{\"a\":NaN}", "{\"a\":1e999}", "\xff",
                           "{\"prompt\":\"\xff\"}", "{\"prompt\":\"\\ud800\"}"}) {
    EXPECT_EQ(Parse(body).status().code(), absl::StatusCode::kInvalidArgument) << body;
  }
}

TEST(ParseCompletionTest, DepthIsLimited) {
  const auto nested = [](size_t depth) {
    return "{\"prompt\":\"a\",\"x\":" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_TRUE(Parse(nested(31)).ok());
  EXPECT_FALSE(Parse(nested(32)).ok());
  EXPECT_FALSE(Parse(nested(1000000)).ok());
  // Brackets in text are no nesting.
  EXPECT_TRUE(Parse("{\"prompt\":\"\\\"" + std::string(100, '[') + "\"}").ok());
}

TEST(ParseCompletionTest, StrictNamesWhatIsUnknown) {
  EXPECT_EQ(Parse(R"({"prompt":"a","foo":1})")->ignored, (std::vector<std::string>{"foo"}));
  EXPECT_EQ(FieldOf(Parse(R"({"prompt":"a","foo":1})", true).status()), "foo");
}

TEST(ParseTargetTest, SplitsPathAndQuery) {
  EXPECT_EQ(ParseTarget("/v1/models/a%2Fb?x=1")->path, "/v1/models/a/b");
  EXPECT_TRUE(ParseTarget("/x?a=1&strict=1")->strict);
  EXPECT_FALSE(ParseTarget("/x?strict=10")->strict);
  for (const char* bad : {"", "x", "*", "http://x/", "/%", "/%1", "/%zz"}) {
    EXPECT_FALSE(ParseTarget(bad).ok()) << bad;
  }
}

TEST(ParseTokenizeTest, TakesExactlyOneInput) {
  EXPECT_TRUE(ParseTokenize(R"({"prompt":""})", false).ok());
  EXPECT_FALSE(ParseTokenize("{}", false).ok());
  EXPECT_FALSE(ParseTokenize(R"({"prompt":"a","messages":[]})", false).ok());
  EXPECT_EQ(FieldOf(ParseTokenize(R"({"messages":[{"content":"x"}]})", false).status()),
            "messages.role");
  EXPECT_EQ(FieldOf(ParseTokenize(R"({"messages":[{"role":1}]})", false).status()),
            "messages.role");
}

}  // namespace
}  // namespace mili::router

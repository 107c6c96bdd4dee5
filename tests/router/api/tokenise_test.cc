#include "router/api/tokenise.h"

#include <gtest/gtest.h>

#include "tests/router/api/api_fixture.h"

namespace mili::router {
namespace {

TEST(CountLongTextTest, CountsTextsThatHardlyFitTheContext) {
  const ServedModel model = FakeModel();  // 64 tokens, one a byte
  EXPECT_EQ(CountLongText(std::string(1039, 'x'), model, true), std::nullopt);
  EXPECT_EQ(CountLongText(std::string(1040, 'x'), model, true), 1040u);
}

TEST(CountLongTextTest, CountsWhatTokeniseWouldGive) {
  const ServedModel model = FakeModel();
  std::string text;
  for (int i = 0; i < 300; ++i) text += "ab<|end|>";
  const auto ids = Tokenise(text, model, std::nullopt);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(CountLongText(text, model, std::nullopt), ids->size());
}

TEST(CountLongTextTest, CountsConversationsByTheirContent) {
  const ServedModel model = FakeModel();
  const auto chat = [](size_t size) {
    return ChatPrompt{.turns = {{"user", std::string(500, 'x')}, {"user", std::string(size, 'x')}}};
  };
  EXPECT_EQ(CountLongText(chat(539), model, true), std::nullopt);
  const auto ids = Tokenise(chat(540), model, std::nullopt);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(CountLongText(chat(540), model, std::nullopt), ids->size());
}

TEST(CountLongTextTest, CountsWhatTheTokenizerAddsToAConversation) {
  class Adding : public FakeTokenizer {
   public:
    std::vector<TokenId> Encode(std::string_view text,
                                const EncodeOptions& options) const override {
      std::vector<TokenId> ids = FakeTokenizer::Encode(text, options);
      if (options.add_special_tokens) ids.insert(ids.begin(), kEnd);
      return ids;
    }
  };
  ServedModel model = FakeModel();
  model.tokenizer = std::make_shared<Adding>();
  const ChatPrompt chat{.turns = {{"user", std::string(1040, 'x')}}};
  for (const auto add : {std::optional<bool>(), std::optional(false), std::optional(true)}) {
    const auto ids = Tokenise(chat, model, add);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(CountLongText(chat, model, add), ids->size());
  }
}

TEST(CountLongTextTest, LeavesTheComplaintsOfATemplateToTokenise) {
  ServedModel model = FakeModel();
  model.count_chat = [](const ChatPrompt&) { return absl::InvalidArgumentError("roles"); };
  const ChatPrompt chat{.turns = {{"user", std::string(1040, 'x')}}};
  EXPECT_EQ(CountLongText(chat, model, true), std::nullopt);
}

TEST(CountLongTextTest, LeavesIdsAndModelsWithoutATokenizerAlone) {
  ServedModel model = FakeModel();
  EXPECT_EQ(CountLongText(std::vector<TokenId>(5000, 1), model, true), std::nullopt);
  model.tokenizer = nullptr;
  EXPECT_EQ(CountLongText(std::string(5000, 'x'), model, true), std::nullopt);
}

}  // namespace
}  // namespace mili::router

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

TEST(CountLongTextTest, LeavesIdsAndModelsWithoutATokenizerAlone) {
  ServedModel model = FakeModel();
  EXPECT_EQ(CountLongText(std::vector<TokenId>(5000, 1), model, true), std::nullopt);
  model.tokenizer = nullptr;
  EXPECT_EQ(CountLongText(std::string(5000, 'x'), model, true), std::nullopt);
}

}  // namespace
}  // namespace mili::router

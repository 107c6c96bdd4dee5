#include "router/text/prompt_encoder.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mili::router {
namespace {

// Letters, space and newline as bytes, one merge, and special tokens of each kind.
std::string SmallTokenizerJson() {
  nlohmann::json vocab;
  int next = 0;
  for (const char c : std::string("abcdefghijklmnopqrstuvwxyz<|>_/")) {
    vocab[std::string(1, c)] = next++;
  }
  vocab["\u0120"] = next++;  // space
  vocab["\u010A"] = next++;  // newline
  vocab["ab"] = next++;
  nlohmann::json added = nlohmann::json::array();
  const auto add = [&](const std::string& content, bool lstrip, bool rstrip, bool single_word,
                       bool special) {
    added.push_back({{"id", next++},
                     {"content", content},
                     {"lstrip", lstrip},
                     {"rstrip", rstrip},
                     {"single_word", single_word},
                     {"normalized", false},
                     {"special", special}});
  };
  add("<|end|>", false, false, false, true);
  add("<|end|><|end|>", false, false, false, true);
  add("<|strip|>", true, true, false, true);
  add("<|word|>", false, false, true, true);
  add("<tool>", false, false, false, false);
  return nlohmann::json{{"version", "1.0"},
                        {"truncation", nullptr},
                        {"padding", nullptr},
                        {"added_tokens", added},
                        {"normalizer", nullptr},
                        {"pre_tokenizer",
                         {{"type", "ByteLevel"},
                          {"add_prefix_space", false},
                          {"trim_offsets", true},
                          {"use_regex", true}}},
                        {"post_processor", nullptr},
                        {"decoder",
                         {{"type", "ByteLevel"},
                          {"add_prefix_space", true},
                          {"trim_offsets", true},
                          {"use_regex", true}}},
                        {"model",
                         {{"type", "BPE"},
                          {"dropout", nullptr},
                          {"unk_token", nullptr},
                          {"continuing_subword_prefix", nullptr},
                          {"end_of_word_suffix", nullptr},
                          {"fuse_unk", false},
                          {"byte_fallback", false},
                          {"vocab", vocab},
                          {"merges", {"a b"}}}}}
      .dump();
}

class PromptEncoderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = Tokenizer::FromJson(SmallTokenizerJson());
    ASSERT_TRUE(made.ok()) << made.status();
    tokenizer_ = *std::move(made);
  }

  // Of the parts, every second one is a user's, from the second on.
  static RenderedPrompt Prompt(const std::vector<std::string>& parts) {
    RenderedPrompt prompt;
    for (size_t i = 0; i < parts.size(); ++i) {
      const size_t begin = prompt.text.size();
      prompt.text += parts[i];
      if (i % 2 == 1 && !parts[i].empty()) {
        prompt.user_spans.push_back({begin, prompt.text.size()});
      }
    }
    return prompt;
  }

  std::string Tokens(const std::vector<std::string>& parts) const {
    const PromptEncoder encoder(*tokenizer_);
    const std::vector<TokenId> ids = encoder.Encode(Prompt(parts));
    EXPECT_EQ(encoder.Count(Prompt(parts)), ids.size());
    std::string text;
    for (const TokenId id : ids) text += "[" + tokenizer_->SpellingOf(id) + "]";
    return text;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(PromptEncoderTest, RecognisesSpecialTokensOfTheTemplateOnly) {
  EXPECT_EQ(Tokens({"a<|end|>", "x<|end|>", "<|end|>"}),
            "[a][<|end|>][x][<][|][e][n][d][|][>][<|end|>]");
}

TEST_F(PromptEncoderTest, NoTokenIsMadeOfBothsText) {
  EXPECT_EQ(Tokens({"<|en", "d|>", ""}), "[<][|][e][n][d][|][>]");
  EXPECT_EQ(Tokens({"", "<|en", "d|>"}), "[<][|][e][n][d][|][>]");
}

TEST_F(PromptEncoderTest, MergesAcrossTheBorderOfUserText) {
  EXPECT_EQ(Tokens({"a", "b", "c"}), "[ab][c]");
}

TEST_F(PromptEncoderTest, TakesTheLongestThatFitsBeforeUserText) {
  EXPECT_EQ(Tokens({"<|end|><|end|>"}), "[<|end|><|end|>]");
  EXPECT_EQ(Tokens({"<|end|>", "<|end|>", ""}), "[<|end|>][<][|][e][n][d][|][>]");
  EXPECT_EQ(Tokens({"<|end|><|en", "d|>", ""}), "[<|end|>][<][|][e][n][d][|][>]");
}

TEST_F(PromptEncoderTest, StrippingTokensTakeTheSpacesBesideThem) {
  EXPECT_EQ(Tokens({"a  <|strip|> \n", " x", ""}), "[a][<|strip|>][x]");
  EXPECT_EQ(Tokens({"a ", " ", " <|strip|>b"}), "[a][<|strip|>][b]");
}

TEST_F(PromptEncoderTest, WordTokensStandAlone) {
  EXPECT_EQ(Tokens({"a <|word|> b"}), "[a][\u0120][<|word|>][\u0120][b]");
  EXPECT_EQ(Tokens({"", "a", "<|word|> b"}), "[a][<][|][w][o][r][d][|][>][\u0120][b]");
}

TEST_F(PromptEncoderTest, TokensThatAreNotSpecialCountEverywhere) {
  EXPECT_EQ(Tokens({"<tool>", "<tool>", ""}), "[<tool>][<tool>]");
}

TEST_F(PromptEncoderTest, EmptyPromptHasNoTokens) { EXPECT_EQ(Tokens({}), ""); }

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST(Qwen3PromptTest, PiecesGiveTheIdsOfTheWhole) {
  const char* folder = std::getenv("MILI_TEST_QWEN3_TOKENIZER");
  if (folder == nullptr) GTEST_SKIP() << "MILI_TEST_QWEN3_TOKENIZER is not set";
  auto tokenizer = Tokenizer::FromJson(ReadFile(std::string(folder) + "/tokenizer.json"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const PromptEncoder encoder(**tokenizer);
  const auto golden =
      nlohmann::json::parse(ReadFile(std::string(MILI_TEST_DATA) + "/chat/qwen3.json"));
  TokenizerBundle bundle;
  bundle.chat_template = golden["chat_template"];
  auto chat_template = ChatTemplate::Create(bundle);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  int num_plain = 0;
  for (const auto& each : golden["cases"]) {
    std::vector<ChatMessage> messages;
    std::string all;
    for (const auto& m : each["messages"]) {
      messages.push_back({m["role"], m["content"], std::nullopt});
      all += m["content"].get<std::string>();
    }
    auto prompt = (*chat_template)->Render(messages, {});
    ASSERT_TRUE(prompt.ok()) << prompt.status();
    const std::vector<TokenId> ids = encoder.Encode(*prompt);
    EXPECT_EQ(encoder.Count(*prompt), ids.size());
    const std::vector<TokenId> whole =
        (*tokenizer)->Encode(prompt->text, {.add_special_tokens = false, .parse_special = true});
    // With no control text in it both ways must agree; else ours has fewer special tokens.
    if (all.find("<|") == std::string::npos) {
      EXPECT_EQ(ids, whole) << prompt->text;
      ++num_plain;
    } else {
      EXPECT_NE(ids, whole) << prompt->text;
    }
    EXPECT_EQ((*tokenizer)->Decode(ids, false), (*tokenizer)->Decode(whole, false));
  }
  EXPECT_GT(num_plain, 30);
}

}  // namespace
}  // namespace mili::router

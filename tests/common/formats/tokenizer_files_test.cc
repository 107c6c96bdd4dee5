#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/formats/gguf_tokenizer.h"
#include "common/formats/hf_tokenizer.h"
#include "common/formats/model_source.h"
#include "gguf_builder.h"
#include "temp_dir.h"

namespace mili {
namespace {

using nlohmann::json;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::TempDir;
using testing::TestModel;

// --- Hugging Face ---

TEST(HfTokenizerTest, ReadsTheRealFilesOfADirectory) {
  const auto bundle = LoadHfTokenizer(TestModel("tiny-qwen3"));
  ASSERT_TRUE(bundle.ok() && bundle->has_value()) << bundle.status();
  EXPECT_EQ((*bundle)->tokenizer_json, ReadAll(TestModel("tiny-qwen3") + "/tokenizer.json"));
  EXPECT_EQ((*bundle)->eos_token, "<|im_end|>");
  EXPECT_EQ((*bundle)->pad_token, "<|endoftext|>");  // an object with "content"
  EXPECT_EQ((*bundle)->bos_token, "");
  EXPECT_THAT((*bundle)->chat_template, HasSubstr("<|im_start|>"));
}

TEST(HfTokenizerTest, NoTokenizerIsNothing) {
  const auto bundle = LoadHfTokenizer(TestModel("tiny-qwen2"));
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  EXPECT_FALSE(bundle->has_value());
}

TEST(HfTokenizerTest, AnotherKindOfTokenizerIsRefusedByName) {
  TempDir dir;
  dir.Write("tokenizer.model", "x");
  const auto bundle = LoadHfTokenizer(dir.path());
  EXPECT_EQ(bundle.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(bundle.status().message()), HasSubstr("tokenizer.model"));
}

TEST(HfTokenizerTest, TakesTheDefaultOfNamedTemplates) {
  TokenizerBundle bundle;
  ASSERT_EQ(ApplyTokenizerConfig(R"({"chat_template":[{"name":"tool_use","template":"T"},
                                                      {"name":"default","template":"D"}]})",
                                 "f", bundle),
            absl::OkStatus());
  EXPECT_EQ(bundle.chat_template, "D");
}

TEST(HfTokenizerTest, ATemplateFileWins) {
  TempDir dir;
  dir.Write("tokenizer.json", "{}");
  dir.Write("tokenizer_config.json", R"({"chat_template":"field"})");
  dir.Write("chat_template.jinja", "file");
  EXPECT_EQ((*LoadHfTokenizer(dir.path()))->chat_template, "file");
}

TEST(HfTokenizerTest, FallsBackToTheMapOfSpecialTokens) {
  TempDir dir;
  dir.Write("tokenizer.json", "{}");
  dir.Write("special_tokens_map.json", R"({"bos_token":"<s>","eos_token":{"content":"</s>"}})");
  EXPECT_EQ((*LoadHfTokenizer(dir.path()))->bos_token, "<s>");
  EXPECT_EQ((*LoadHfTokenizer(dir.path()))->eos_token, "</s>");
}

TEST(HfTokenizerTest, NamesBadFields) {
  TokenizerBundle bundle;
  for (const char* text : {R"({"bos_token":3})", R"({"bos_token":{"content":3}})",
                           R"({"chat_template":3})", R"({"chat_template":[{"name":"default"}]})"}) {
    EXPECT_EQ(ApplyTokenizerConfig(text, "f", bundle).code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_THAT(std::string(ApplyTokenizerConfig("[", "f", bundle).message()), HasSubstr("f: not"));
}

// --- GGUF ---

GgufBuilder Gpt2(const char* pre, std::vector<std::string> tokens, std::vector<int32_t> types,
                 std::vector<std::string> merges = {}) {
  GgufBuilder file;
  file.String("tokenizer.ggml.model", "gpt2")
      .String("tokenizer.ggml.pre", pre)
      .Strings("tokenizer.ggml.tokens", tokens)
      .Int32s("tokenizer.ggml.token_type", types)
      .Strings("tokenizer.ggml.merges", merges);
  return file;
}

absl::StatusOr<std::optional<TokenizerBundle>> Read(GgufBuilder file) {
  return TokenizerFromGguf(testing::ParseGgufBytes(file.Build())->metadata, "f.gguf");
}

std::string ErrorOf(GgufBuilder file) {
  const auto bundle = Read(std::move(file));
  return bundle.ok() ? "" : std::string(bundle.status().message());
}

json JsonOf(GgufBuilder file) {
  const auto bundle = Read(std::move(file));
  EXPECT_TRUE(bundle.ok()) << bundle.status();
  return json::parse((*bundle)->tokenizer_json);
}

TEST(GgufTokenizerTest, SaysTheSameAsTheRealTokenizerJson) {
  const auto source = ModelSource::Open(TestModel("tiny-qwen3.bf16.gguf"));
  const auto bundle = (*source)->LoadTokenizer();
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  const json made = json::parse((*bundle)->tokenizer_json);
  const json real = json::parse(ReadAll(TestModel("tiny-qwen3") + "/tokenizer.json"));
  for (const char* part : {"added_tokens", "normalizer", "pre_tokenizer"}) {
    EXPECT_EQ(made[part], real[part]) << part;
  }
  for (const char* part : {"type", "vocab", "merges", "ignore_merges"}) {
    EXPECT_EQ(made["model"][part], real["model"][part]) << part;
  }
  EXPECT_EQ(made["decoder"]["type"], "ByteLevel");
  EXPECT_EQ((*bundle)->eos_token, "<|im_end|>");
  EXPECT_EQ((*bundle)->pad_token, "<|endoftext|>");
}

TEST(GgufTokenizerTest, EachPreHasItsOwnParts) {
  const auto parts = [](const char* pre) { return JsonOf(Gpt2(pre, {"a"}, {1})); };
  EXPECT_EQ(parts("gpt-2")["pre_tokenizer"]["type"], "ByteLevel");
  EXPECT_EQ(parts("smollm")["pre_tokenizer"]["pretokenizers"][0],
            json({{"type", "Digits"}, {"individual_digits", true}}));
  EXPECT_EQ(parts("qwen2")["normalizer"]["type"], "NFC");
  EXPECT_EQ(parts("deepseek-r1-qwen"), parts("qwen2"));
  const json llama = parts("llama-bpe");
  EXPECT_TRUE(llama["normalizer"].is_null());
  EXPECT_TRUE(llama["model"]["ignore_merges"]);
  EXPECT_EQ(parts("llama3"), llama);
  EXPECT_EQ(parts("llama-v3"), llama);
  EXPECT_THAT(llama["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"].get<std::string>(),
              HasSubstr(R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"));
}

TEST(GgufTokenizerTest, RefusesOtherModelsAndPresByName) {
  EXPECT_THAT(ErrorOf(GgufBuilder().String("tokenizer.ggml.model", "llama")),
              HasSubstr("tokenizer.ggml.model is \"llama\"; supported is gpt2"));
  for (const char* pre : {"default", "tekken", "gpt-4o", "deepseek-v3", "qwen35", ""}) {
    EXPECT_THAT(ErrorOf(Gpt2(pre, {"a"}, {1})),
                HasSubstr("tokenizer.ggml.pre is \"" + std::string(pre) + "\"; supported are"));
  }
  EXPECT_THAT(ErrorOf(GgufBuilder().String("tokenizer.ggml.model", "gpt2")),
              HasSubstr("tokenizer.ggml.pre is missing"));
}

TEST(GgufTokenizerTest, AddedTokensAreSpecialByTheirType) {
  const json made = JsonOf(Gpt2("qwen2", {"a", "<c>", "<u>", "[PAD3]"}, {1, 3, 4, 5}));
  ASSERT_EQ(made["added_tokens"].size(), 2u);
  EXPECT_EQ(made["added_tokens"][0]["id"], 1);
  EXPECT_EQ(made["added_tokens"][0]["special"], true);
  EXPECT_EQ(made["added_tokens"][1]["content"], "<u>");
  EXPECT_EQ(made["added_tokens"][1]["special"], false);
  EXPECT_EQ(made["model"]["vocab"], json({{"a", 0}}));
}

TEST(GgufTokenizerTest, BosIsAddedWhereTheFileOrThePreSaysSo) {
  const auto file = [](const char* pre) {
    return Gpt2(pre, {"a", "<s>", "</s>"}, {1, 3, 3})
        .Uint32("tokenizer.ggml.bos_token_id", 1)
        .Uint32("tokenizer.ggml.eos_token_id", 2);
  };
  EXPECT_EQ(JsonOf(file("qwen2"))["post_processor"]["type"], "ByteLevel");
  EXPECT_EQ(
      JsonOf(
          file("llama-bpe").Bool("tokenizer.ggml.add_bos_token", false))["post_processor"]["type"],
      "ByteLevel");
  for (auto made : {JsonOf(file("llama-bpe")),
                    JsonOf(file("qwen2").Bool("tokenizer.ggml.add_bos_token", true))}) {
    const json& added = made["post_processor"]["processors"][1];
    EXPECT_EQ(added["type"], "TemplateProcessing");
    EXPECT_EQ(added["single"], json::parse(R"([{"SpecialToken":{"id":"<s>","type_id":0}},
                                              {"Sequence":{"id":"A","type_id":0}}])"));
    EXPECT_EQ(added["special_tokens"],
              json::parse(R"({"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]}})"));
  }
  const json both = JsonOf(file("llama-bpe").Bool("tokenizer.ggml.add_eos_token", true));
  EXPECT_EQ(both["post_processor"]["processors"][1]["single"].size(), 3u);
}

TEST(GgufTokenizerTest, RefusesContradictions) {
  EXPECT_THAT(ErrorOf(Gpt2("qwen2", {"a", "\xff"}, {1, 1})), HasSubstr("[1] is no UTF-8"));
  EXPECT_THAT(ErrorOf(Gpt2("qwen2", {"a", "a"}, {1, 1})), HasSubstr("the same token at 0 and 1"));
  EXPECT_THAT(ErrorOf(Gpt2("qwen2", {"a", "b"}, {1})), HasSubstr("has 1 entries; expected 2"));
  EXPECT_THAT(ErrorOf(Gpt2("qwen2", {"a"}, {6})), HasSubstr("[0] is 6; expected 1 to 5"));
  EXPECT_THAT(ErrorOf(Gpt2("qwen2", {"a"}, {-1})), HasSubstr("[0] is -1"));
  for (const char* merge : {"ab", "a ", " b", "", " "}) {
    EXPECT_THAT(ErrorOf(Gpt2("qwen2", {"a", "b", "ab"}, {1, 1, 1}, {merge})),
                HasSubstr("[0] is not two tokens"))
        << merge;
  }
  EXPECT_THAT(ErrorOf(Gpt2("qwen2", {"a", "b"}, {1, 1}, {"a b"})),
              HasSubstr("needs a token that the vocabulary lacks"));
  EXPECT_THAT(ErrorOf(Gpt2("qwen2", {"a"}, {1}).Uint32("tokenizer.ggml.bos_token_id", 1)),
              HasSubstr("bos_token_id is 1; the vocabulary has 1 tokens"));
  EXPECT_THAT(ErrorOf(GgufBuilder()
                          .String("tokenizer.ggml.model", "gpt2")
                          .String("tokenizer.ggml.pre", "qwen2")
                          .Int32s("tokenizer.ggml.tokens", {1})),
              HasSubstr("tokenizer.ggml.tokens is missing; expected an array of strings"));
  EXPECT_THAT(ErrorOf(Gpt2("qwen2", {"a"}, {1}).String("tokenizer.chat_template", "\xff")),
              HasSubstr("expected UTF-8"));
}

}  // namespace
}  // namespace mili

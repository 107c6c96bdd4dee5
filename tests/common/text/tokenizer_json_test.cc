#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/text/tokenizer.h"
#include "common/text/vocabulary.h"
#include "tests/common/text/test_tokenizers.h"

namespace mili::text {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

// A list even of one: nlohmann takes {x} for x.
Json List(std::initializer_list<Json> values) { return Json(Json::array_t(values)); }

Json Added(const std::string& content, uint64_t id) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

// A small file that is fine, for tests to spoil.
Json Sample() {
  return {
      {"version", "1.0"},
      {"added_tokens", List({Added("<s>", 3)})},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model",
       {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", List({"a b"})}}}};
}

absl::Status StatusOf(const std::string& json) { return Tokenizer::FromJson(json).status(); }

// The refusal of the sample after `spoil` was at it.
absl::Status Spoiled(const std::function<void(Json&)>& spoil) {
  Json json = Sample();
  spoil(json);
  return StatusOf(json.dump());
}

void ExpectRefused(const absl::Status& status, absl::StatusCode code, const std::string& part,
                   const std::string& found) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  EXPECT_THAT(std::string(status.message()), HasSubstr(found));
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

TEST(TokenizerJsonTest, ReadsTheSample) {
  const auto tokenizer = Tokenizer::FromJson(Sample().dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("ab<s>a", {}), (std::vector<TokenId>{2, 3, 0}));
}

TEST(TokenizerJsonTest, ReadsModelAndVocabularyInAnyOrder) {
  Json json = Sample();
  Json turned = Json::object();
  turned["model"]["merges"] = List({List({"a", "b"})});
  turned["model"]["vocab"] = json["model"]["vocab"];
  json.erase("model");
  turned.update(json);
  EXPECT_TRUE(StatusOf(turned.dump()).ok()) << StatusOf(turned.dump());
}

TEST(TokenizerJsonTest, IgnoresWhatHuggingFaceIgnores) {
  EXPECT_TRUE(Spoiled([](Json& j) { j["truncation"] = {{"max_length", 4}}; }).ok());
  EXPECT_TRUE(Spoiled([](Json& j) { j["unknown"] = {{"vocab", {1, {2, "merges"}}}}; }).ok());
  EXPECT_TRUE(Spoiled([](Json& j) {
                j["model"]["merges"].insert(j["model"]["merges"].begin(), "#version: 0.2");
              }).ok());
}

TEST(TokenizerJsonTest, RefusesTextThatIsNoTokenizer) {
  for (const std::string json :
       {"", "{", "[]", "3", "null", "\"x\"", "{}", "{\"model\":3}", "{\"model\":[]}",
        "{\"model\":{}}", "{} {}", "{\"a\":1e999}", "{\"a\":\"\xFF\"}", "{\"a\":\"\\ud800\"}"}) {
    EXPECT_EQ(StatusOf(json).code(), kInvalid) << json;
  }
  const std::string whole = Sample().dump();
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(StatusOf(whole.substr(0, size)).code(), kInvalid) << size;
  }
}

TEST(TokenizerJsonTest, RefusesDeepNesting) {
  for (const char* key : {"normalizer", "unknown", "model"}) {
    const std::string json = std::string("{\"") + key + "\":" + std::string(1'000'000, '[');
    ExpectRefused(StatusOf(json), kInvalid, "deeper", "32");
  }
}

TEST(TokenizerJsonTest, RefusesPartsThatItDoesNotDo) {
  const auto refused = [](const char* part, const Json& value, const std::string& found) {
    ExpectRefused(Spoiled([&](Json& j) { j[part] = value; }), kUnimplemented, part, found);
  };
  refused("normalizer", {{"type", "NFKC"}}, "NFKC");
  refused("normalizer", {{"type", "Sequence"}, {"normalizers", List({{{"type", "Lowercase"}}})}},
          "normalizers[0].type is \"Lowercase\"");
  refused("pre_tokenizer", {{"type", "Metaspace"}}, "Metaspace");
  refused("pre_tokenizer", nullptr, "ByteLevel");
  refused("post_processor", {{"type", "RobertaProcessing"}}, "Roberta");
  refused("decoder", {{"type", "WordPiece"}}, "WordPiece");
  refused("decoder", nullptr, "ByteLevel");
  refused("version", "2.0", "2.0");
  refused("model", {{"type", "Unigram"}, {"vocab", {}}}, "Unigram");
}

TEST(TokenizerJsonTest, RefusesModelOptionsThatItDoesNotDo) {
  const auto refused = [](const char* option, const Json& value) {
    ExpectRefused(Spoiled([&](Json& j) { j["model"][option] = value; }), kUnimplemented,
                  std::string("model.") + option, value.dump());
  };
  refused("dropout", 0.5);
  refused("continuing_subword_prefix", "##");
  refused("end_of_word_suffix", "</w>");
  refused("byte_fallback", true);
  refused("type", "WordPiece");
}

TEST(TokenizerJsonTest, RefusesAnUnknownSplitPattern) {
  const auto with_split = [](const Json& pattern, const char* behavior, bool invert) {
    return Spoiled([&](Json& j) {
      j["pre_tokenizer"] = {
          {"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}},
            j["pre_tokenizer"]}}};
    });
  };
  const Json gpt2 = {
      {"Regex", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"}};
  EXPECT_TRUE(with_split(gpt2, "Isolated", false).ok());
  EXPECT_TRUE(with_split(gpt2, "Removed", true).ok());
  ExpectRefused(with_split(gpt2, "Removed", false), kUnimplemented, "behavior", "Removed");
  ExpectRefused(with_split({{"Regex", "\\d"}}, "Isolated", false), kUnimplemented,
                "pretokenizers[0].pattern.Regex", "GPT-2, Qwen2 and Llama 3");
  ExpectRefused(with_split({{"String", " "}}, "Isolated", false), kUnimplemented, "pattern",
                "String");
}

TEST(TokenizerJsonTest, RefusesBadVocabularies) {
  const auto refused = [](const Json& vocab, const std::string& found) {
    ExpectRefused(Spoiled([&](Json& j) { j["model"]["vocab"] = vocab; }), kInvalid,
                  "tokenizer.json", found);
  };
  refused({{"a", 0}, {"b", 0}}, "id 0");
  refused({{"a", -1}}, "vocab[\"a\"]");
  refused({{"a", 1.5}}, "vocab[\"a\"]");
  refused({{"a", "0"}}, "vocab[\"a\"]");
  refused({{"a", {0}}}, "vocab[\"a\"]");
  refused({{"a", Vocabulary::kMaxIds}}, std::to_string(Vocabulary::kMaxIds));
  refused({{"a", UINT64_MAX}}, std::to_string(UINT64_MAX));
  refused(List({1}), "model.vocab");
  refused(nullptr, "model.vocab");
  ExpectRefused(StatusOf(R"({"model":{"vocab":{"a":0,"a":1},"merges":[]}})"), kInvalid,
                "model.vocab", "\"a\" is there twice");
  ExpectRefused(StatusOf(R"({"model":{"vocab":{"a":0},"merges":[],"vocab":{}}})"), kInvalid,
                "model.vocab", "twice");
}

TEST(TokenizerJsonTest, RefusesBadMerges) {
  const auto refused = [](const Json& merges, const std::string& found) {
    ExpectRefused(Spoiled([&](Json& j) { j["model"]["merges"] = merges; }), kInvalid,
                  "model.merges", found);
  };
  refused(List({"a b", "ab"}), "merges[1] is \"ab\"");
  refused(List({"a b c"}), "one space");
  refused(List({"a c"}), "\"c\"");
  refused(List({"b a"}), "\"ba\"");
  refused(List({List({"a"})}), "merges[0]");
  refused(List({List({"a", "b", "c"})}), "more than two");
  refused(List({List({"a", 3})}), "merges[0]");
  refused(List({3}), "merges[0]");
  refused(List({Json::object()}), "merges[0]");
  refused(List({List({"a", Json::array()})}), "merges[0]");
  refused("a b", "a list");
}

TEST(TokenizerJsonTest, RefusesBadAddedTokens) {
  const auto refused = [](const Json& tokens, const std::string& found) {
    ExpectRefused(Spoiled([&](Json& j) { j["added_tokens"] = tokens; }), kInvalid, "added_tokens",
                  found);
  };
  refused(List({Added("<s>", 4)}), "expected 3");
  refused(List({Added("ab", 3)}), "expected 2");
  refused(List({Added("<s>", 3), Added("<s>", 3)}), "twice");
  refused(List({Added("<s>", UINT64_MAX)}), "an id below");
  refused(List({Added(std::string(5000, 'x'), 3)}), "4096 bytes");
  refused(List({{{"content", "x"}}}), "added_tokens[0].id is null");
  refused(List({3}), "added_tokens[0].id");
  refused("x", "a list");
  Json no_flag = Added("<s>", 3);
  no_flag["lstrip"] = 1;
  refused(List({no_flag}), "added_tokens[0].lstrip is 1");
}

TEST(TokenizerJsonTest, RefusesAddedTokensThatAreOneOnceNormalized) {
  Json composed = Added("\u00E9", 3), decomposed = Added("e\u0301", 4);
  composed["normalized"] = decomposed["normalized"] = true;
  ExpectRefused(Spoiled([&](Json& j) {
                  j["added_tokens"] = {composed, decomposed};
                }),
                kInvalid, "added_tokens", "twice");
}

TEST(TokenizerJsonTest, RefusesBadTemplates) {
  const auto with_single = [](const Json& single) {
    return Spoiled([&](Json& j) {
      j["post_processor"] = {
          {"type", "TemplateProcessing"},
          {"single", single},
          {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", List({3})}, {"tokens", {"<s>"}}}}}}};
    });
  };
  const Json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json other = {{"Sequence", {{"id", "B"}, {"type_id", 0}}}};
  EXPECT_TRUE(with_single(List({bos, text, bos})).ok());
  EXPECT_EQ(with_single(List({bos})).code(), kUnimplemented);
  EXPECT_EQ(with_single(List({text, text})).code(), kUnimplemented);
  EXPECT_EQ(with_single(List({other})).code(), kUnimplemented);
  EXPECT_EQ(with_single(List({{{"SpecialToken", {{"id", "?"}}}}, text})).code(), kInvalid);
  EXPECT_EQ(with_single(3).code(), kInvalid);
}

// A template that puts ids around the text.
Json Around(std::initializer_list<Json> before, std::initializer_list<Json> after) {
  return {{"type", "TemplateProcessing"},
          {"single", List({{{"SpecialToken", {{"id", "l"}}}},
                           {{"Sequence", {{"id", "A"}}}},
                           {{"SpecialToken", {{"id", "r"}}}}})},
          {"special_tokens", {{"l", {{"ids", List(before)}}}, {"r", {{"ids", List(after)}}}}}};
}

TEST(TokenizerJsonTest, PutsTheTemplateAroundTheTextIfAsked) {
  Json json = Sample();
  json["post_processor"] = {{"type", "Sequence"},
                            {"processors", List({{{"type", "ByteLevel"}}, Around({0, 1}, {3})})}};
  const auto tokenizer = Tokenizer::FromJson(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("ab", {}), (std::vector<TokenId>{0, 1, 2, 3}));
  EXPECT_EQ((*tokenizer)->Encode("", {}), (std::vector<TokenId>{0, 1, 3}));
  EXPECT_EQ((*tokenizer)->Encode("ab", {.add_special_tokens = false}), (std::vector<TokenId>{2}));
}

TEST(TokenizerJsonTest, RefusesASecondTemplate) {
  // Hugging Face tokenizers panics on it.
  const Json two = List({Around({0}, {}), Around({1}, {})});
  ExpectRefused(Spoiled([&](Json& j) {
                  j["post_processor"] = {{"type", "Sequence"}, {"processors", two}};
                }),
                kUnimplemented, "processors[1]", "one TemplateProcessing");
}

TEST(TokenizerJsonTest, RefusesAnUnknownTokenThatIsMissingButNeeded) {
  ExpectRefused(Spoiled([](Json& j) { j["model"]["unk_token"] = "<unk>"; }), kInvalid,
                "model.unk_token", "<unk>");
}

TEST(TokenizerJsonTest, RefusesTheSameKeyTwice) {
  ExpectRefused(StatusOf(R"({"decoder":null,"decoder":null})"), kInvalid, "decoder", "twice");
}

}  // namespace
}  // namespace mili::text

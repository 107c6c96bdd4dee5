#include "common/formats/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mili {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

json Plain(const char* architecture) {
  return {{"architectures", {architecture}},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 100},
          {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-6}};
}

json With(json config, const char* field, json value) {
  config[field] = std::move(value);
  return config;
}

absl::StatusOr<ModelConfig> Parse(const json& config, std::string_view generation = "") {
  return ParseHfConfig(config.dump(), generation);
}

std::string ErrorOf(const json& config, std::string_view generation = "") {
  const auto parsed = Parse(config, generation);
  return parsed.ok() ? "" : std::string(parsed.status().message());
}

TEST(HfConfigTest, KnowsItsArchitectures) {
  EXPECT_EQ(Parse(Plain("LlamaForCausalLM"))->architecture, Architecture::kLlama);
  EXPECT_EQ(Parse(Plain("MistralForCausalLM"))->architecture, Architecture::kLlama);
  const auto qwen2 = Parse(Plain("Qwen2ForCausalLM"));
  EXPECT_EQ(qwen2->architecture, Architecture::kQwen2);
  EXPECT_TRUE(qwen2->attention_bias);
  EXPECT_EQ(qwen2->head_dim, 16u);
  const auto qwen3 = Parse(Plain("Qwen3ForCausalLM"));
  EXPECT_TRUE(qwen3->qk_norm);
  EXPECT_FALSE(qwen3->attention_bias);
  EXPECT_EQ(qwen3->head_dim, 128u);  // that architecture's default
}

TEST(HfConfigTest, RefusesOtherArchitecturesByName) {
  const auto parsed = Parse(Plain("Gemma3ForCausalLM"));
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(parsed.status().message()),
              HasSubstr("Gemma3ForCausalLM is not supported"));
  json config = Plain("x");
  config.erase("architectures");
  EXPECT_THAT(ErrorOf(config), HasSubstr("architectures is missing"));
  EXPECT_THAT(ErrorOf(With(config, "architectures", json::array())), HasSubstr("a list of one"));
}

TEST(HfConfigTest, NamesMissingAndMistypedFields) {
  for (const char* field : {"hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
                            "num_attention_heads", "max_position_embeddings", "rms_norm_eps"}) {
    json config = Plain("LlamaForCausalLM");
    config.erase(field);
    EXPECT_THAT(ErrorOf(config), HasSubstr(std::string("config.json: ") + field + " is missing"));
    EXPECT_THAT(ErrorOf(With(config, field, "8")),
                HasSubstr(std::string(field) + " is \"8\"; expected"));
  }
  EXPECT_THAT(ErrorOf(With(Plain("LlamaForCausalLM"), "hidden_size", 64.5)),
              HasSubstr("hidden_size is 64.5"));
  EXPECT_THAT(ErrorOf(With(Plain("LlamaForCausalLM"), "num_hidden_layers", -1)),
              HasSubstr("num_hidden_layers is -1"));
  EXPECT_THAT(ErrorOf(With(Plain("LlamaForCausalLM"), "num_hidden_layers", 0)),
              HasSubstr("config.json: num_layers is 0"));
}

TEST(HfConfigTest, RefusesWhatTheForwardPassLacks) {
  const auto code = [](const char* field, json value, const char* architecture) {
    return Parse(With(Plain(architecture), field, std::move(value))).status().code();
  };
  constexpr auto kNo = absl::StatusCode::kUnimplemented;
  constexpr auto kYes = absl::StatusCode::kOk;
  EXPECT_EQ(code("sliding_window", 4096, "MistralForCausalLM"), kNo);
  EXPECT_EQ(code("sliding_window", nullptr, "MistralForCausalLM"), kYes);
  EXPECT_EQ(code("use_sliding_window", true, "Qwen2ForCausalLM"), kNo);
  EXPECT_EQ(code("use_sliding_window", false, "Qwen2ForCausalLM"), kYes);
  EXPECT_EQ(code("sliding_window", 32768, "Qwen2ForCausalLM"), kYes);
  EXPECT_EQ(code("layer_types", {"full_attention", "sliding_attention"}, "Qwen3ForCausalLM"), kNo);
  EXPECT_EQ(code("layer_types", {"full_attention", "full_attention"}, "Qwen3ForCausalLM"), kYes);
  EXPECT_EQ(code("mlp_bias", true, "LlamaForCausalLM"), kNo);
  EXPECT_EQ(code("mlp_bias", false, "LlamaForCausalLM"), kYes);
  EXPECT_EQ(code("hidden_act", "gelu", "LlamaForCausalLM"), kNo);
  EXPECT_EQ(code("partial_rotary_factor", 0.5, "LlamaForCausalLM"), kNo);
  EXPECT_EQ(code("quantization_config", {{"quant_method", "awq"}}, "LlamaForCausalLM"), kNo);
  EXPECT_THAT(
      ErrorOf(With(Plain("LlamaForCausalLM"), "quantization_config", {{"quant_method", "awq"}})),
      HasSubstr("quantization_config (\"awq\") is not supported"));
}

TEST(HfConfigTest, ReadsRopeInBothSpellings) {
  const auto old_default = Parse(With(Plain("LlamaForCausalLM"), "rope_theta", 5e5));
  EXPECT_EQ(old_default->rope.theta, 5e5);
  const auto linear = Parse(With(With(Plain("LlamaForCausalLM"), "rope_theta", 5e5), "rope_scaling",
                                 {{"type", "linear"}, {"factor", 2}}));
  EXPECT_EQ(linear->rope.scaling, RopeConfig::Scaling::kLinear);
  EXPECT_EQ(linear->rope.factor, 2);
  EXPECT_EQ(linear->rope.theta, 5e5);
  const auto newer = Parse(With(Plain("Qwen3ForCausalLM"), "rope_parameters",
                                {{"rope_type", "default"}, {"rope_theta", 1e6}}));
  EXPECT_EQ(newer->rope.theta, 1e6);
  const auto llama3 = Parse(With(Plain("LlamaForCausalLM"), "rope_scaling",
                                 {{"rope_type", "llama3"},
                                  {"factor", 32.0},
                                  {"low_freq_factor", 1.0},
                                  {"high_freq_factor", 4.0},
                                  {"original_max_position_embeddings", 8192}}));
  EXPECT_EQ(llama3->rope.scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(llama3->rope.original_max_position, 8192u);
}

TEST(HfConfigTest, RefusesOtherRopeTypesByName) {
  for (const char* type : {"yarn", "dynamic", "longrope", "mrope"}) {
    const auto parsed = Parse(
        With(Plain("LlamaForCausalLM"), "rope_scaling", {{"rope_type", type}, {"factor", 2}}));
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(type));
  }
  EXPECT_THAT(ErrorOf(With(Plain("LlamaForCausalLM"), "rope_scaling", {{"rope_type", "llama3"}})),
              HasSubstr("rope_scaling.factor is missing"));
  EXPECT_THAT(
      ErrorOf(With(Plain("LlamaForCausalLM"), "rope_scaling", {{"type", "linear"}, {"factor", 0}})),
      HasSubstr("rope factor is 0"));
}

TEST(HfConfigTest, UnitesEndTokens) {
  const json one = With(Plain("LlamaForCausalLM"), "eos_token_id", 7);
  EXPECT_THAT(Parse(one)->eos_token_ids, ElementsAre(7u));
  EXPECT_THAT(Parse(one, R"({"eos_token_id":[9,7]})")->eos_token_ids, ElementsAre(7u, 9u));
  EXPECT_THAT(
      Parse(Plain("LlamaForCausalLM"), R"({"eos_token_id":3,"bos_token_id":1})")->eos_token_ids,
      ElementsAre(3u));
  EXPECT_EQ(Parse(Plain("LlamaForCausalLM"), R"({"bos_token_id":1})")->bos_token_id, 1u);
  EXPECT_THAT(ErrorOf(With(one, "eos_token_id", 100)),
              HasSubstr("eos_token_id is 100; expected ids below vocab_size, 100"));
  EXPECT_THAT(ErrorOf(With(one, "eos_token_id", {1, "2"})), HasSubstr("eos_token_id is [1,\"2\"]"));
  EXPECT_THAT(ErrorOf(one, "{"), HasSubstr("generation_config.json: not valid JSON"));
}

TEST(HfConfigTest, RefusesSizesThatContradictEachOther) {
  EXPECT_THAT(ErrorOf(With(Plain("LlamaForCausalLM"), "num_attention_heads", 5)),
              HasSubstr("hidden_size is 64; expected a multiple of num_attention_heads, 5"));
  EXPECT_THAT(ErrorOf(With(Plain("LlamaForCausalLM"), "num_key_value_heads", 3)),
              HasSubstr("a multiple of num_kv_heads, 3"));
  EXPECT_THAT(ErrorOf(With(Plain("LlamaForCausalLM"), "head_dim", 15)), HasSubstr("even"));
  EXPECT_THAT(ErrorOf(With(Plain("LlamaForCausalLM"), "rms_norm_eps", 0)),
              HasSubstr("rms_norm_eps is 0"));
  json heads = Plain("LlamaForCausalLM");
  heads.erase("num_key_value_heads");
  EXPECT_EQ(Parse(heads)->num_kv_heads, 4u);
}

}  // namespace
}  // namespace mili

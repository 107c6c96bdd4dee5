#include "common/core/model_config.h"

#include <cmath>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

namespace mili {
namespace {

ModelConfig SmallLlama() {
  ModelConfig config;
  config.num_layers = 2;
  config.hidden_size = 64;
  config.intermediate_size = 128;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 100;
  config.max_position = 512;
  return config;
}

TEST(ModelConfigTest, AcceptsAModelThatCanBeComputed) {
  EXPECT_TRUE(Validate(SmallLlama()).ok()) << Validate(SmallLlama());
}

TEST(ModelConfigTest, RefusesWhatTheForwardPassCannotComputeAndNamesTheField) {
  const float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::pair<const char*, std::function<void(ModelConfig&)>>> kCases = {
      {"num_layers", [](ModelConfig& c) { c.num_layers = 0; }},
      {"hidden_size", [](ModelConfig& c) { c.hidden_size = 0; }},
      {"intermediate_size", [](ModelConfig& c) { c.intermediate_size = 0; }},
      {"num_kv_heads", [](ModelConfig& c) { c.num_kv_heads = 3; }},
      {"head_dim", [](ModelConfig& c) { c.head_dim = 17; }},
      {"head_dim", [](ModelConfig& c) { c.head_dim = 258; }},
      {"vocab_size", [](ModelConfig& c) { c.vocab_size = 0; }},
      {"max_position", [](ModelConfig& c) { c.max_position = 0; }},
      {"rms_norm_eps", [=](ModelConfig& c) { c.rms_norm_eps = kNan; }},
      {"theta", [](ModelConfig& c) { c.rope.theta = -1; }},
  };
  for (const auto& [field, damage] : kCases) {
    ModelConfig config = SmallLlama();
    damage(config);
    const absl::Status status = Validate(config);
    EXPECT_FALSE(status.ok()) << field;
    EXPECT_NE(status.message().find(field), absl::string_view::npos) << status;
  }
}

TEST(RopeTest, FallsGeometricallyWithoutScaling) {
  ModelConfig config = SmallLlama();
  config.rope.theta = 10000;
  const std::vector<float> frequencies = RopeInverseFrequencies(config);
  ASSERT_EQ(frequencies.size(), 8u);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    EXPECT_NEAR(frequencies[i], std::pow(10000.0, -2.0 * i / 16), 1e-7);
  }
}

TEST(RopeTest, DividesAllFrequenciesByALinearFactor) {
  ModelConfig config = SmallLlama();
  const std::vector<float> plain = RopeInverseFrequencies(config);
  config.rope.scaling = RopeConfig::Scaling::kLinear;
  config.rope.factor = 4;
  const std::vector<float> scaled = RopeInverseFrequencies(config);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(scaled[i], plain[i] / 4, 1e-7);
}

TEST(RopeTest, KeepsShortWavesAndStretchesLongOnesAsLlama3) {
  ModelConfig config = SmallLlama();
  config.head_dim = 64;
  config.rope.theta = 500000;
  const std::vector<float> plain = RopeInverseFrequencies(config);
  config.rope.scaling = RopeConfig::Scaling::kLlama3;
  config.rope.factor = 8;
  config.rope.original_max_position = 8192;
  const std::vector<float> scaled = RopeInverseFrequencies(config);
  EXPECT_FLOAT_EQ(scaled.front(), plain.front());
  EXPECT_FLOAT_EQ(scaled.back(), plain.back() / 8);
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_LE(scaled[i], plain[i] * 1.000001f);
    EXPECT_GE(scaled[i], plain[i] / 8 * 0.999999f);
  }
}

TEST(RopeTest, DividesEachFrequencyByItsFactorFromGguf) {
  ModelConfig config = SmallLlama();
  const std::vector<float> plain = RopeInverseFrequencies(config);
  config.rope.freq_factors.assign(8, 1.0f);
  config.rope.freq_factors[7] = 32.0f;
  const std::vector<float> scaled = RopeInverseFrequencies(config);
  EXPECT_FLOAT_EQ(scaled[6], plain[6]);
  EXPECT_FLOAT_EQ(scaled[7], plain[7] / 32);
}

}  // namespace
}  // namespace mili

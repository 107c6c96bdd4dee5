// Where weights go on the GPU is decided on the host: these tests need no GPU.
#include "worker/model/cuda/weight_layout.h"

#include <map>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/random_model.h"

namespace mili::worker {
namespace {

ModelConfig Config() {
  ModelConfig config;
  config.num_layers = 2;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.vocab_size = 40;
  config.attention_bias = true;
  config.qk_norm = true;
  return config;
}

// Marks what a row takes; fails where something lies already.
void Mark(std::map<uint64_t, std::string>* taken, uint64_t begin, uint64_t size,
          const std::string& name) {
  for (uint64_t byte = begin; byte < begin + size; byte += 4) {
    const auto [at, is_new] = taken->emplace(byte, name);
    EXPECT_TRUE(is_new) << name << " lies on " << at->second;
  }
}

class WeightLayoutTest : public ::testing::TestWithParam<bool> {
 protected:
  WeightLayoutTest() : model_(Config(), DType::kBF16, 1), layout_(model_, GetParam()) {}
  bool is_fp8() const { return GetParam(); }

  RandomModel model_;
  WeightLayout layout_;
};

TEST_P(WeightLayoutTest, GivesEachRowAndScaleAPlaceOfItsOwn) {
  ASSERT_EQ(layout_.places().size(), model_.tensors().size());
  std::map<uint64_t, std::string> taken;
  for (const TensorPlace& place : layout_.places()) {
    const uint64_t row_bytes = place.tensor->num_cols() * (place.is_fp8 ? 1 : 2);
    for (uint64_t row = 0; row < place.tensor->num_rows(); ++row) {
      const uint64_t idx =
          place.is_interleaved ? row / kInterleavedRows * 2 * kInterleavedRows + row % 8 : row;
      Mark(&taken, place.offset_bytes + idx * row_bytes, row_bytes, place.tensor->name);
      if (place.is_fp8) Mark(&taken, place.scales_offset_bytes + idx * 4, 4, place.tensor->name);
    }
  }
  EXPECT_LE(taken.rbegin()->first + 4, layout_.size_bytes());
  EXPECT_LT(layout_.size_bytes(), taken.size() * 4 + 256 * 2 * layout_.places().size());
}

TEST_P(WeightLayoutTest, PutsWhatOneProductReadsTogether) {
  const auto offset = [&](const std::string& name) {
    return layout_.Find("model.layers.1." + name)->offset_bytes;
  };
  const uint64_t row_bytes = is_fp8() ? 64 : 128;
  const uint64_t q = offset("self_attn.q_proj.weight");
  EXPECT_EQ(q % 256, 0u);
  EXPECT_EQ(offset("self_attn.k_proj.weight"), q + 64 * row_bytes);
  EXPECT_EQ(offset("self_attn.v_proj.weight"), q + 96 * row_bytes);
  EXPECT_EQ(offset("self_attn.v_proj.bias"), offset("self_attn.q_proj.bias") + 96 * 2);
  EXPECT_EQ(offset("mlp.up_proj.weight"), offset("mlp.gate_proj.weight") + 8 * row_bytes);
}

TEST_P(WeightLayoutTest, RoundsOnlyTheMatricesOfLayers) {
  for (const TensorPlace& place : layout_.places()) {
    const bool is_matrix = place.tensor->name.find(".layers.") != std::string::npos &&
                           place.tensor->name.find("_proj.weight") != std::string::npos;
    EXPECT_EQ(place.is_fp8, is_fp8() && is_matrix) << place.tensor->name;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, WeightLayoutTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Fp8" : "HalfFloats"; });

}  // namespace
}  // namespace mili::worker

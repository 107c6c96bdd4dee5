// Quantising while reading: how near the values stay, what is quantised, and what is refused.
#include "common/formats/quantize.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/dtype.h"
#include "common/formats/quantized_source.h"
#include "kernels/reference/dequant.h"

namespace mili {
namespace {

using ::testing::HasSubstr;

// Root mean square of what a type loses, over that of the values.
double RelativeLoss(DType dtype, const std::vector<float>& values) {
  std::vector<std::byte> blocks(RowBytes(dtype, values.size()));
  QuantizeRow(dtype, values.data(), values.size(), blocks.data());
  std::vector<float> back(values.size());
  kernels::Dequantize(dtype, blocks.data(), static_cast<int64_t>(values.size()), back.data());
  double lost = 0, all = 1e-300;
  for (size_t i = 0; i < values.size(); ++i) {
    lost += std::pow(double{back[i]} - values[i], 2);
    all += std::pow(double{values[i]}, 2);
  }
  return std::sqrt(lost / all);
}

std::vector<float> Normal(size_t size, float mean) {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal(mean, 0.02f);
  std::vector<float> values(size);
  for (float& value : values) value = normal(rng);
  return values;
}

TEST(QuantizeTest, HalvesSurviveTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = HalfToFloat(half);
    if (std::isnan(value)) continue;
    EXPECT_EQ(FloatToHalf(value), half) << bits;
  }
  EXPECT_EQ(FloatToHalf(1.0f + 0x1p-11f), 0x3c00);    // a tie, to even
  EXPECT_EQ(FloatToHalf(1.0f + 0x1.8p-10f), 0x3c02);  // a tie, to even
  EXPECT_EQ(FloatToHalf(0x1p-25f * 1.01f), 1);        // the smallest subnormal
  EXPECT_EQ(FloatToHalf(std::nextafterf(0x1p-14f, 0)), 0x400);
}

TEST(QuantizeTest, LosesNoMoreThanTheTypeMust) {
  EXPECT_LT(RelativeLoss(DType::kQ8_0, Normal(4096, 0)), 0.007);
  EXPECT_LT(RelativeLoss(DType::kQ4_K, Normal(4096, 0)), 0.085);
  // A minimum takes up a mean of either sign.
  EXPECT_LT(RelativeLoss(DType::kQ4_K, Normal(4096, -0.05f)), 0.035);
  EXPECT_LT(RelativeLoss(DType::kQ4_K, Normal(4096, 0.05f)), 0.05);
}

TEST(QuantizeTest, ZerosAndTinyValuesStayFinite) {
  EXPECT_EQ(RelativeLoss(DType::kQ8_0, std::vector<float>(256)), 0);
  EXPECT_EQ(RelativeLoss(DType::kQ4_K, std::vector<float>(256)), 0);
  EXPECT_LE(RelativeLoss(DType::kQ8_0, std::vector<float>(256, 1e-30f)), 1);
  EXPECT_LE(RelativeLoss(DType::kQ4_K, std::vector<float>(256, -1e-30f)), 1);
}

TEST(QuantizeTest, GridValuesAreExact) {
  std::vector<float> values(256);
  for (int i = 0; i < 256; ++i) values[i] = static_cast<float>(i % 16) * 63 * 0x1p-10f;
  EXPECT_LT(RelativeLoss(DType::kQ4_K, values), 1e-3);
  for (int i = 0; i < 256; ++i) values[i] = static_cast<float>(i % 32 * 8 - 127) * 0x1p-7f;
  EXPECT_LT(RelativeLoss(DType::kQ8_0, values), 1e-6);
}

// Matrices of bf16, each weight its row's number; a norm.
class FakeSource final : public ModelSource {
 public:
  void Add(const std::string& name, DType dtype, std::vector<uint64_t> shape) {
    TensorInfo tensor;
    tensor.name = name;
    tensor.name_in_file = "file:" + name;
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.size_bytes = RowBytes(dtype, tensor.num_cols()) * tensor.num_rows();
    tensors_.push_back(tensor);
  }
  const ModelConfig& config() const override { return config_; }
  std::string_view format() const override { return "fake"; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  absl::Status ReadRows(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                        std::span<std::byte> to) const override {
    EXPECT_EQ(to.size(), num_rows * RowBytes(tensor.dtype, tensor.num_cols()));
    for (uint64_t i = 0; i < num_rows * tensor.num_cols(); ++i) {
      const float value = bad_row == first_row + i / tensor.num_cols()
                              ? std::numeric_limits<float>::infinity()
                              : static_cast<float>(first_row + i / tensor.num_cols());
      const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
      std::memcpy(to.data() + 2 * i, &bits, 2);
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<TokenizerBundle>> LoadTokenizer() const override {
    return std::optional<TokenizerBundle>();
  }
  const std::string& generation_config_json() const override { return empty_; }

  uint64_t bad_row = ~uint64_t{0};

 private:
  ModelConfig config_;
  std::vector<TensorInfo> tensors_;
  std::string empty_;
};

std::unique_ptr<FakeSource> Model() {
  auto source = std::make_unique<FakeSource>();
  source->Add("model.embed_tokens.weight", DType::kBF16, {100, 256});
  source->Add("model.norm.weight", DType::kBF16, {256});
  source->Add("model.layers.0.mlp.up_proj.weight", DType::kBF16, {90, 256});
  source->Add("model.layers.0.mlp.down_proj.weight", DType::kBF16, {256, 96});
  source->Add("model.layers.0.self_attn.q_proj.weight", DType::kBF16, {64, 40});
  return source;
}

TEST(QuantizedSourceTest, SaysWhatEachMatrixBecomes) {
  const auto source = QuantizeWhileReading(Model(), "q4_k");
  ASSERT_TRUE(source.ok()) << source.status();
  const auto type_of = [&](const char* name) { return (*source)->Find(name)->dtype; };
  EXPECT_EQ(type_of("model.embed_tokens.weight"), DType::kQ8_0);
  EXPECT_EQ(type_of("model.norm.weight"), DType::kBF16);
  EXPECT_EQ(type_of("model.layers.0.mlp.up_proj.weight"), DType::kQ4_K);
  EXPECT_EQ(type_of("model.layers.0.mlp.down_proj.weight"), DType::kQ8_0);     // no block of 256
  EXPECT_EQ(type_of("model.layers.0.self_attn.q_proj.weight"), DType::kBF16);  // nor of 32
  EXPECT_EQ((*source)->Find("model.layers.0.mlp.up_proj.weight")->size_bytes, 90u * 144);
  EXPECT_NE((*source)->Digest(), Model()->Digest());
}

TEST(QuantizedSourceTest, ReadsRowsInTheNewType) {
  const auto source = QuantizeWhileReading(Model(), "q8_0");
  ASSERT_TRUE(source.ok()) << source.status();
  const TensorInfo& tensor = *(*source)->Find("model.layers.0.mlp.up_proj.weight");
  std::vector<std::byte> rows(7 * RowBytes(DType::kQ8_0, 256));
  ASSERT_TRUE((*source)->ReadRows(tensor, 60, 7, rows).ok());
  std::vector<float> values(7 * 256);
  kernels::Dequantize(DType::kQ8_0, rows.data(), 7 * 256, values.data());
  for (int i = 0; i < 7 * 256; ++i) EXPECT_NEAR(values[i], 60 + i / 256, 0.05);
}

TEST(QuantizedSourceTest, RefusesWhatItCannotQuantise) {
  EXPECT_EQ(QuantizeWhileReading(Model(), "q3_k").status().code(),
            absl::StatusCode::kInvalidArgument);
  auto quantised = Model();
  quantised->Add("lm_head.weight", DType::kQ4_1, {100, 256});
  EXPECT_THAT(std::string(QuantizeWhileReading(std::move(quantised), "q8_0").status().message()),
              HasSubstr("file:lm_head.weight is q4_1 already"));
  auto broken = Model();
  broken->bad_row = 3;
  const auto source = QuantizeWhileReading(std::move(broken), "q8_0");
  ASSERT_TRUE(source.ok());
  std::vector<std::byte> rows(5 * RowBytes(DType::kQ8_0, 256));
  const absl::Status status =
      (*source)->ReadRows(*(*source)->Find("model.layers.0.mlp.up_proj.weight"), 0, 5, rows);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("row 3"));
}

TEST(QuantizedSourceTest, NoneChangesNothing) {
  auto model = Model();
  const ModelSource* before = model.get();
  const auto source = QuantizeWhileReading(std::move(model), "none");
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(source->get(), before);
}

}  // namespace
}  // namespace mili

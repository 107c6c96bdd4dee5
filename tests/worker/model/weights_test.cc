#include "worker/model/weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cpu/kernels.h"
#include "kernels/reference/dequant.h"

namespace mili::worker {
namespace {

using ::testing::HasSubstr;

// A source of one layer's worth of odd tensors; byte i of a tensor is i + its index, mod 251.
class FakeSource final : public ModelSource {
 public:
  FakeSource() {
    config_.num_layers = 1;
    config_.tie_word_embeddings = true;
    Add("model.embed_tokens.weight", DType::kQ8_0, {100, 64});
    Add("model.norm.weight", DType::kF32, {8});
    Add("model.layers.0.input_layernorm.weight", DType::kBF16, {8});
    Add("model.layers.0.self_attn.q_proj.bias", DType::kF16, {8});
    // Larger than one chunk of reading.
    Add("model.layers.0.mlp.down_proj.weight", DType::kF32, {3000, 1000});
  }
  void Add(const std::string& name, DType dtype, std::vector<uint64_t> shape) {
    TensorInfo tensor;
    tensor.name = name;
    tensor.name_in_file = "file:" + name;
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.size_bytes = RowBytes(dtype, tensor.num_cols()) * tensor.num_rows();
    tensors_.push_back(tensor);
  }
  static std::byte ByteOf(const TensorInfo& tensor, uint64_t i) {
    return static_cast<std::byte>((i + tensor.name.size()) % 251);
  }

  const ModelConfig& config() const override { return config_; }
  std::string_view format() const override { return "fake"; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                    [&](const TensorInfo& t) { return t.name == name; });
    return found == tensors_.end() ? nullptr : &*found;
  }
  absl::Status ReadRows(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                        std::span<std::byte> to) const override {
    ++num_reads;
    if (tensor.name == fails_at) return absl::DataLossError("model.gguf: ends early");
    const uint64_t row_bytes = RowBytes(tensor.dtype, tensor.num_cols());
    EXPECT_EQ(to.size(), num_rows * row_bytes);
    for (uint64_t i = 0; i < to.size(); ++i) to[i] = ByteOf(tensor, first_row * row_bytes + i);
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<TokenizerBundle>> LoadTokenizer() const override {
    return std::optional<TokenizerBundle>();
  }
  const std::string& generation_config_json() const override { return empty_; }

  std::string fails_at;
  mutable std::atomic<int> num_reads{0};

 private:
  ModelConfig config_;
  std::vector<TensorInfo> tensors_;
  std::string empty_;
};

Weights::Options Quiet(int num_threads) {
  return {
      .num_threads = num_threads, .kernels = nullptr, .progress = nullptr, .cancelled = nullptr};
}

TEST(WeightsTest, MatricesLieAsStoredAndVectorsAreWidened) {
  const FakeSource source;
  const absl::StatusOr<Weights> weights = Weights::Load(source, Quiet(3));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_GE(weights->size_bytes(), Weights::BytesNeeded(source, nullptr));
  const LayerWeights& layer = weights->layers().at(0);
  const TensorInfo& down = *source.Find("model.layers.0.mlp.down_proj.weight");
  EXPECT_EQ(layer.down.rows, 3000);
  EXPECT_EQ(layer.down.cols, 1000);
  for (uint64_t i = 0; i < down.size_bytes; i += 997) {
    ASSERT_EQ(layer.down.data[i], FakeSource::ByteOf(down, i)) << i;
  }
  EXPECT_EQ(layer.down.data[down.size_bytes - 1], FakeSource::ByteOf(down, down.size_bytes - 1));

  const TensorInfo& norm = *source.Find("model.layers.0.input_layernorm.weight");
  for (uint32_t i = 0; i < 8; ++i) {
    const uint32_t bits = static_cast<uint32_t>(FakeSource::ByteOf(norm, 2 * i)) << 16 |
                          static_cast<uint32_t>(FakeSource::ByteOf(norm, 2 * i + 1)) << 24;
    EXPECT_EQ(std::memcmp(&layer.input_norm[i], &bits, 4), 0);
  }
  const TensorInfo& bias = *source.Find("model.layers.0.self_attn.q_proj.bias");
  for (uint32_t i = 0; i < 8; ++i) {
    uint16_t bits = 0;
    const std::byte bytes[] = {FakeSource::ByteOf(bias, 2 * i),
                               FakeSource::ByteOf(bias, 2 * i + 1)};
    std::memcpy(&bits, bytes, 2);
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    EXPECT_EQ(layer.q_bias[i], static_cast<float>(half));
  }
  EXPECT_EQ(layer.q_norm, nullptr);
  EXPECT_EQ(weights->head().data, weights->embed().data);  // tied
}

TEST(WeightsTest, PackedMatricesGiveTheirRowsBack) {
  FakeSource source;
  // Several chunks of reading, and no whole number of groups.
  source.Add("model.layers.0.mlp.up_proj.weight", DType::kQ4_K, {70003, 256});
  source.Add("model.layers.0.mlp.gate_proj.weight", DType::kF16, {9001, 515});
  const kernels::CpuKernels& kernels = kernels::BestCpuKernels();
  Weights::Options options = Quiet(3);
  options.kernels = &kernels;
  const absl::StatusOr<Weights> weights = Weights::Load(source, options);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_GE(weights->size_bytes(), Weights::BytesNeeded(source, &kernels));
  const LayerWeights& layer = weights->layers().at(0);
  for (const auto& [matrix, name] : {std::pair{layer.up, "model.layers.0.mlp.up_proj.weight"},
                                     {layer.gate, "model.layers.0.mlp.gate_proj.weight"},
                                     {weights->embed(), "model.embed_tokens.weight"}}) {
    const TensorInfo& tensor = *source.Find(name);
    const uint64_t row_bytes = RowBytes(tensor.dtype, tensor.num_cols());
    std::vector<std::byte> stored(row_bytes);
    std::vector<float> expected(tensor.num_cols()), row(tensor.num_cols());
    kernels::SingleThread pool;
    for (uint64_t r = 0; r < tensor.num_rows(); r += r < tensor.num_rows() - 40 ? 39 : 1) {
      for (uint64_t i = 0; i < row_bytes; ++i) {
        stored[i] = FakeSource::ByteOf(tensor, r * row_bytes + i);
      }
      kernels::Dequantize(tensor.dtype, stored.data(), matrix.cols, expected.data());
      const auto id = static_cast<uint32_t>(r);
      kernels.embed({matrix, &id, 1, row.data()}, pool);
      ASSERT_EQ(std::memcmp(row.data(), expected.data(), row.size() * sizeof(float)), 0)
          << name << " row " << r;
    }
  }
}

TEST(WeightsTest, TellsProgressUpToAll) {
  const FakeSource source;
  uint64_t last = 0;
  uint64_t total = 0;
  const auto weights = Weights::Load(source, {.num_threads = 1,
                                              .kernels = nullptr,
                                              .progress =
                                                  [&](uint64_t loaded, uint64_t all) {
                                                    EXPECT_GT(loaded, last);
                                                    last = loaded;
                                                    total = all;
                                                  },
                                              .cancelled = nullptr});
  ASSERT_TRUE(weights.ok());
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, 100u * 68 + 8 * 4 + 8 * 2 + 8 * 2 + 3000u * 1000 * 4);
}

TEST(WeightsTest, TheFirstFailureEndsLoading) {
  FakeSource source;
  source.fails_at = "model.norm.weight";
  const absl::Status status = Weights::Load(source, Quiet(4)).status();
  EXPECT_EQ(status, absl::DataLossError("model.gguf: ends early"));
}

TEST(WeightsTest, CancelEndsLoadingBeforeTheNextRead) {
  const FakeSource source;
  const std::atomic<bool> cancelled{true};
  const absl::Status status =
      Weights::Load(
          source,
          {.num_threads = 2, .kernels = nullptr, .progress = nullptr, .cancelled = &cancelled})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(source.num_reads, 0);
}

TEST(WeightsTest, AQuantisedNormIsRefusedByName) {
  FakeSource source;
  source.Add("model.layers.0.post_attention_layernorm.weight", DType::kQ8_0, {32});
  const absl::Status status = Weights::Load(source, Quiet(2)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("file:model.layers.0.post_attention_layernorm.weight is q8_0"));
}

}  // namespace
}  // namespace mili::worker

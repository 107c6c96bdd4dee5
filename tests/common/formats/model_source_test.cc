#include "common/formats/model_source.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "temp_dir.h"

namespace mili {
namespace {

using testing::CopyModel;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::TestModel;

std::unique_ptr<ModelSource> OpenOrDie(const std::string& path) {
  auto source = ModelSource::Open(path);
  EXPECT_TRUE(source.ok()) << source.status();
  return source.ok() ? *std::move(source) : nullptr;
}

std::string ErrorOf(const std::string& path) {
  return std::string(ModelSource::Open(path).status().message());
}

std::vector<std::byte> RowsOf(const ModelSource& source, const TensorInfo& tensor, uint64_t first,
                              uint64_t count) {
  std::vector<std::byte> rows(count * RowBytes(tensor.dtype, tensor.num_cols()));
  const absl::Status status = source.ReadRows(tensor, first, count, rows);
  EXPECT_TRUE(status.ok()) << status;
  return rows;
}

// A tensor of float type as floats.
std::vector<float> FloatsOf(const ModelSource& source, const TensorInfo& tensor) {
  const std::vector<std::byte> raw = RowsOf(source, tensor, 0, tensor.num_rows());
  std::vector<float> floats(tensor.num_rows() * tensor.num_cols());
  for (size_t i = 0; i < floats.size(); ++i) {
    if (tensor.dtype == DType::kF32) {
      std::memcpy(&floats[i], raw.data() + i * 4, 4);
    } else if (tensor.dtype == DType::kBF16) {
      uint16_t upper;
      std::memcpy(&upper, raw.data() + i * 2, 2);
      const uint32_t bits = uint32_t{upper} << 16;
      std::memcpy(&floats[i], &bits, 4);
    } else {
      _Float16 half;
      std::memcpy(&half, raw.data() + i * 2, 2);
      floats[i] = half;
    }
  }
  return floats;
}

// Same tensors, same values up to `tolerance`.
void ExpectSameWeights(const ModelSource& a, const ModelSource& b, float tolerance) {
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (size_t t = 0; t < a.tensors().size(); ++t) {
    const TensorInfo& tensor = a.tensors()[t];
    ASSERT_EQ(tensor.name, b.tensors()[t].name);
    ASSERT_EQ(tensor.shape, b.tensors()[t].shape);
    const std::vector<float> of_a = FloatsOf(a, tensor);
    const std::vector<float> of_b = FloatsOf(b, b.tensors()[t]);
    for (size_t i = 0; i < of_a.size(); ++i) {
      ASSERT_NEAR(of_a[i], of_b[i], tolerance) << tensor.name << " " << i;
    }
  }
}

TEST(ModelSourceTest, ReadsAShardedQwen3) {
  const auto source = OpenOrDie(TestModel("tiny-qwen3"));
  const ModelConfig& config = source->config();
  EXPECT_EQ(source->format(), "safetensors");
  EXPECT_EQ(config.architecture, Architecture::kQwen3);
  EXPECT_EQ(config.name, "tiny-qwen3");
  EXPECT_EQ(config.head_dim, 32u);
  EXPECT_EQ(config.q_size(), 128u);
  EXPECT_TRUE(config.qk_norm);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(318u, 316u));
  EXPECT_EQ(config.bos_token_id, std::nullopt);
  EXPECT_EQ(source->tensors().size(), 2 * 11 + 3u);
  EXPECT_THAT(source->generation_config_json(), HasSubstr("\"top_k\": 20"));
  const TensorInfo* q = source->Find("model.layers.1.self_attn.q_proj.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_THAT(q->shape, ElementsAre(128u, 64u));
  EXPECT_EQ(q->dtype, DType::kBF16);
  EXPECT_EQ(source->Find("no.such.tensor"), nullptr);
}

TEST(ModelSourceTest, ATiedModelHasNoHead) {
  const auto source = OpenOrDie(TestModel("tiny-qwen3-tied/"));
  EXPECT_TRUE(source->config().tie_word_embeddings);
  EXPECT_EQ(source->config().name, "tiny-qwen3-tied");
  EXPECT_EQ(source->Find("lm_head.weight"), nullptr);
}

TEST(ModelSourceTest, ReadsQwen2WithBiases) {
  const auto source = OpenOrDie(TestModel("tiny-qwen2"));
  EXPECT_TRUE(source->config().attention_bias);
  EXPECT_NE(source->Find("model.layers.0.self_attn.v_proj.bias"), nullptr);
}

TEST(ModelSourceTest, ReadsLlama3RopeScaling) {
  const auto source = OpenOrDie(TestModel("tiny-llama"));
  const RopeConfig& rope = source->config().rope;
  EXPECT_EQ(rope.scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(rope.factor, 8);
  EXPECT_EQ(rope.original_max_position, 64u);
}

// GGUF stores q and k of a Llama in another order of rows: reading must undo that.
TEST(ModelSourceTest, AGgufLlamaReadsLikeItsSafetensors) {
  const auto hf = OpenOrDie(TestModel("tiny-llama"));
  const auto gguf = OpenOrDie(TestModel("tiny-llama.bf16.gguf"));
  EXPECT_EQ(gguf->format(), "gguf");
  EXPECT_EQ(gguf->config().name, "tiny-llama.bf16");
  EXPECT_EQ(gguf->Find("model.layers.0.self_attn.q_proj.weight")->permuted_head_dim, 16u);
  EXPECT_EQ(gguf->Find("model.layers.0.self_attn.v_proj.weight")->permuted_head_dim, 0u);
  ExpectSameWeights(*hf, *gguf, 0);
}

TEST(ModelSourceTest, RopeFreqsOfGgufMeanLlama3Scaling) {
  const auto hf = OpenOrDie(TestModel("tiny-llama"));
  const auto gguf = OpenOrDie(TestModel("tiny-llama.bf16.gguf"));
  EXPECT_EQ(gguf->config().rope.freq_factors.size(), 8u);
  const std::vector<float> expected = RopeInverseFrequencies(hf->config());
  const std::vector<float> got = RopeInverseFrequencies(gguf->config());
  ASSERT_EQ(expected.size(), got.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-6 * expected[i]);
}

TEST(ModelSourceTest, AGgufQwenReadsLikeItsSafetensors) {
  ExpectSameWeights(*OpenOrDie(TestModel("tiny-qwen3")),
                    *OpenOrDie(TestModel("tiny-qwen3.bf16.gguf")), 0);
  // Half precision has no room for the smallest bf16 values.
  ExpectSameWeights(*OpenOrDie(TestModel("tiny-qwen2")),
                    *OpenOrDie(TestModel("tiny-qwen2.f16.gguf")), 1e-7f);
}

TEST(ModelSourceTest, OpensEveryQuantisedType) {
  for (const auto& [name, dtype] : {
           std::pair{"q8_0", DType::kQ8_0},
           {"q4_0", DType::kQ4_0},
           {"q4_1", DType::kQ4_1},
           {"q5_0", DType::kQ5_0},
           {"q5_1", DType::kQ5_1},
           {"q4_k", DType::kQ4_K},
           {"q5_k", DType::kQ5_K},
           {"q6_k", DType::kQ6_K},
       }) {
    const auto source = OpenOrDie(TestModel("quant/") + name + ".gguf");
    ASSERT_NE(source, nullptr);
    EXPECT_EQ(source->Find("model.embed_tokens.weight")->dtype, dtype);
    EXPECT_TRUE(source->config().tie_word_embeddings);
    EXPECT_EQ(source->LoadTokenizer()->has_value(), false);
  }
}

TEST(ModelSourceTest, PiecesOfPermutedRowsJoinToTheWhole) {
  const auto source = OpenOrDie(TestModel("quant/q4_0.gguf"));
  const TensorInfo& q = *source->Find("model.layers.0.self_attn.q_proj.weight");
  ASSERT_EQ(q.permuted_head_dim, 32u);
  const std::vector<std::byte> whole = RowsOf(*source, q, 0, q.num_rows());
  for (const uint64_t piece : {1u, 5u, 32u, 33u, 100u}) {
    std::vector<std::byte> joined;
    for (uint64_t at = 0; at < q.num_rows(); at += piece) {
      const auto rows = RowsOf(*source, q, at, std::min(piece, q.num_rows() - at));
      joined.insert(joined.end(), rows.begin(), rows.end());
    }
    EXPECT_EQ(joined, whole) << piece;
  }
}

TEST(ModelSourceTest, ReadsFromManyThreads) {
  const auto source = OpenOrDie(TestModel("tiny-llama.bf16.gguf"));
  const TensorInfo& q = *source->Find("model.layers.0.self_attn.q_proj.weight");
  const std::vector<std::byte> expected = RowsOf(*source, q, 0, q.num_rows());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 50; ++n) EXPECT_EQ(RowsOf(*source, q, 0, q.num_rows()), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ModelSourceTest, CountsBytesAndParameters) {
  const auto source = OpenOrDie(TestModel("tiny-llama"));
  const uint64_t layer = 64 * 64 * 2 + 2 * 32 * 64 + 3 * 80 * 64 + 2 * 64;
  EXPECT_EQ(source->num_parameters(), 2 * 320 * 64 + 2 * layer + 64);
  EXPECT_EQ(source->weights_bytes(), 2 * source->num_parameters());
}

TEST(ModelSourceTest, TheDigestFollowsConfigAndTypesButNotThePath) {
  TempDir copy;
  CopyModel("tiny-llama", copy);
  const std::string digest = OpenOrDie(TestModel("tiny-llama"))->Digest();
  EXPECT_EQ(digest.size(), 64u);
  EXPECT_EQ(OpenOrDie(copy.path())->Digest(), digest);
  EXPECT_NE(OpenOrDie(TestModel("tiny-llama.bf16.gguf"))->Digest(), digest);
  ASSERT_TRUE(testing::ReplaceIn(copy.path("config.json"), "10000.0", "10001.0"));
  EXPECT_NE(OpenOrDie(copy.path())->Digest(), digest);
}

TEST(ModelSourceTest, AFileThatShrankIsDataLossNotACrash) {
  TempDir dir;
  CopyModel("tiny-llama", dir);
  const auto source = OpenOrDie(dir.path());
  std::filesystem::resize_file(dir.path("model.safetensors"), 20000);
  const TensorInfo& last = *source->Find("model.norm.weight");
  std::vector<std::byte> row(RowBytes(last.dtype, last.num_cols()));
  const absl::Status status = source->ReadRows(last, 0, 1, row);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors"));
}

TEST(ModelSourceTest, SaysWhatItExpectedOfAPath) {
  TempDir dir;
  EXPECT_EQ(ModelSource::Open(dir.path("none")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(ErrorOf(dir.path()), HasSubstr("has no config.json"));
  dir.Write("a.gguf", "GGUF");
  EXPECT_THAT(ErrorOf(dir.path()), HasSubstr("name it: " + dir.path("a.gguf")));
  EXPECT_THAT(ErrorOf(dir.Write("m.safetensors", "x")), HasSubstr("name the directory"));
  EXPECT_THAT(ErrorOf(dir.Write("text.txt", "hello there, world")), HasSubstr("\"GGUF\""));
  EXPECT_THAT(ErrorOf(dir.Write("empty", "")), HasSubstr("0 are left"));
}

// The real model, where one is at hand.
TEST(ModelSourceTest, ReadsSmolLm2) {
  const char* path = std::getenv("MILI_TEST_MODEL");
  if (path == nullptr) GTEST_SKIP() << "MILI_TEST_MODEL is not set";
  const auto source = OpenOrDie(path);
  ASSERT_NE(source, nullptr);
  const ModelConfig& config = source->config();
  EXPECT_EQ(config.architecture, Architecture::kLlama);
  EXPECT_EQ(config.num_layers, 30u);
  EXPECT_EQ(config.num_heads, 9u);
  EXPECT_EQ(config.num_kv_heads, 3u);
  EXPECT_EQ(config.head_dim, 64u);
  EXPECT_EQ(config.vocab_size, 49152u);
  EXPECT_EQ(config.max_position, 8192u);
  EXPECT_EQ(config.rope.theta, 100000);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2u));
  EXPECT_EQ(config.bos_token_id, 1u);
  EXPECT_EQ(source->num_parameters(), 134515008u);
  const auto tokenizer = source->LoadTokenizer();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->eos_token, "<|im_end|>");
  EXPECT_THAT((*tokenizer)->chat_template, HasSubstr("SmolLM"));
  EXPECT_THAT((*tokenizer)->tokenizer_json, HasSubstr("\"individual_digits\":true"));
}

}  // namespace
}  // namespace mili

#include "common/formats/gguf_source.h"

#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/formats/tensor_files.h"
#include "gguf_builder.h"
#include "temp_dir.h"

namespace mili {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::TinyLlama;

absl::Status OpenStatus(GgufBuilder file) {
  TempDir dir;
  return OpenGguf(dir.Write("m.gguf", file.Build())).status();
}

std::string ErrorOf(GgufBuilder file) { return std::string(OpenStatus(std::move(file)).message()); }

TEST(GgufSourceTest, OpensVersions2And3) {
  for (const uint32_t version : {2u, 3u}) {
    EXPECT_EQ(OpenStatus(TinyLlama(version)), absl::OkStatus());
  }
}

TEST(GgufSourceTest, NamesAMissingTensorAndItsShape) {
  EXPECT_THAT(ErrorOf(TinyLlama(3, "blk.0.attn_k.weight")),
              HasSubstr("tensor model.layers.0.self_attn.k_proj.weight is missing; expected one of "
                        "shape [4, 8]"));
}

TEST(GgufSourceTest, NamesATensorOfAnotherShape) {
  EXPECT_THAT(ErrorOf(TinyLlama(3, "blk.0.ffn_up.weight").F32("blk.0.ffn_up.weight", {12, 8})),
              HasSubstr("tensor blk.0.ffn_up.weight (model.layers.0.mlp.up_proj.weight) has shape "
                        "[8, 12]; expected [12, 8]"));
}

TEST(GgufSourceTest, NamesUnknownTensors) {
  EXPECT_THAT(ErrorOf(TinyLlama().F32("blk.0.ffn_gate_exps.weight", {8})),
              HasSubstr("unknown tensor blk.0.ffn_gate_exps.weight of shape [8]"));
  EXPECT_THAT(ErrorOf(TinyLlama().F32("blk.1.attn_norm.weight", {8})),
              HasSubstr("unknown tensor blk.1.attn_norm.weight"));
  EXPECT_THAT(ErrorOf(TinyLlama().F32("blk.01.attn_norm.weight", {8})),
              HasSubstr("unknown tensor blk.01.attn_norm.weight"));
  EXPECT_THAT(ErrorOf(TinyLlama().F32("blk.0.attn_output.bias", {8})),
              HasSubstr("a bias or an expert here is not supported"));
}

TEST(GgufSourceTest, RefusesAQuantisedNorm) {
  const absl::Status status = OpenStatus(TinyLlama(3, "output_norm.weight")
                                             .Uint32("general.file_type", 2)
                                             .Tensor("output_norm.weight", {8}, 1, 16));
  EXPECT_EQ(status, absl::OkStatus());  // f16 is fine
  GgufBuilder file;
  file.String("general.architecture", "llama")
      .Uint32("llama.block_count", 1)
      .Uint32("llama.context_length", 64)
      .Uint32("llama.embedding_length", 32)
      .Uint32("llama.feed_forward_length", 32)
      .Uint32("llama.attention.head_count", 1)
      .Float32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .F32("token_embd.weight", {32, 4})
      .Tensor("blk.0.attn_norm.weight", {32}, 8, 34);
  EXPECT_THAT(ErrorOf(std::move(file)), HasSubstr("has type q8_0; norms and biases"));
}

TEST(GgufSourceTest, RefusesOtherArchitectures) {
  EXPECT_THAT(ErrorOf(GgufBuilder().String("general.architecture", "gemma3")),
              HasSubstr("is \"gemma3\"; supported are llama, qwen2 and qwen3"));
  EXPECT_THAT(ErrorOf(GgufBuilder()), HasSubstr("general.architecture is missing"));
  EXPECT_THAT(ErrorOf(GgufBuilder().Uint32("general.architecture", 3)),
              HasSubstr("expected a string"));
}

TEST(GgufSourceTest, NamesMissingAndMistypedKeys) {
  EXPECT_THAT(ErrorOf(GgufBuilder().String("general.architecture", "llama")),
              HasSubstr("llama.block_count is missing"));
  EXPECT_THAT(
      ErrorOf(
          GgufBuilder().String("general.architecture", "llama").String("llama.block_count", "one")),
      HasSubstr("llama.block_count has another type"));
  EXPECT_THAT(ErrorOf(GgufBuilder()
                          .String("general.architecture", "llama")
                          .Uint64("llama.block_count", 1ull << 33)),
              HasSubstr("at most 32 bits"));
  EXPECT_THAT(ErrorOf(GgufBuilder()
                          .String("general.architecture", "llama")
                          .Int32s("llama.block_count", {1, 2})),
              HasSubstr("is an array"));
}

TEST(GgufSourceTest, RefusesWhatTheForwardPassLacks) {
  EXPECT_THAT(ErrorOf(TinyLlama().String("llama.rope.scaling.type", "yarn")),
              HasSubstr("is \"yarn\"; supported are none and linear"));
  EXPECT_THAT(ErrorOf(TinyLlama().Uint32("llama.rope.dimension_count", 2)),
              HasSubstr("llama.rope.dimension_count is 2; supported is 4"));
  EXPECT_THAT(ErrorOf(TinyLlama().Uint32("llama.expert_count", 8)), HasSubstr("expert_count is 8"));
  EXPECT_THAT(ErrorOf(TinyLlama().Uint32("llama.attention.sliding_window", 32)),
              HasSubstr("sliding_window is 32"));
  EXPECT_EQ(OpenStatus(TinyLlama().Uint32("llama.attention.sliding_window", 64)), absl::OkStatus());
}

TEST(GgufSourceTest, RefusesNonsenseNumbers) {
  const auto with_eps = [](float eps) {
    return GgufBuilder()
        .String("general.architecture", "llama")
        .Uint32("llama.block_count", 1)
        .Uint32("llama.context_length", 8)
        .Uint32("llama.embedding_length", 8)
        .Uint32("llama.feed_forward_length", 8)
        .Float32("llama.attention.layer_norm_rms_epsilon", eps);
  };
  EXPECT_THAT(ErrorOf(with_eps(std::numeric_limits<float>::quiet_NaN())),
              HasSubstr("layer_norm_rms_epsilon is not finite"));
  EXPECT_THAT(ErrorOf(with_eps(1e-5f).Uint32("llama.attention.head_count", 0)),
              HasSubstr("head_count is 0"));
  EXPECT_THAT(
      ErrorOf(with_eps(0).Uint32("llama.attention.head_count", 2).Uint32("llama.vocab_size", 4)),
      HasSubstr("rms_norm_eps is 0"));
  EXPECT_THAT(ErrorOf(TinyLlama().Uint32("tokenizer.ggml.eos_token_id", 6)),
              HasSubstr("eos_token_id is 6; expected an id below 6"));
  EXPECT_THAT(ErrorOf(TinyLlama().Float32("llama.rope.freq_base", 0)), HasSubstr("rope theta"));
}

TEST(GgufSourceTest, ReadsEndTokensAndLinearScaling) {
  TempDir dir;
  const auto source = OpenGguf(dir.Write("m.gguf", TinyLlama()
                                                       .Uint32("tokenizer.ggml.eos_token_id", 2)
                                                       .Uint32("tokenizer.ggml.eot_token_id", 4)
                                                       .Uint32("tokenizer.ggml.eom_token_id", 2)
                                                       .String("llama.rope.scaling.type", "linear")
                                                       .Float32("llama.rope.scaling.factor", 4)
                                                       .Build()));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT((*source)->config().eos_token_ids, ElementsAre(2u, 4u));
  EXPECT_EQ((*source)->config().rope.scaling, RopeConfig::Scaling::kLinear);
  EXPECT_EQ((*source)->config().rope.factor, 4);
}

TEST(GgufSourceTest, RefusesBadRopeFreqs) {
  EXPECT_THAT(ErrorOf(TinyLlama().F32("rope_freqs.weight", {3})), HasSubstr("expected f32, [2]"));
  // All zeros: not positive.
  EXPECT_THAT(ErrorOf(TinyLlama().F32("rope_freqs.weight", {2})), HasSubstr("rope_freqs"));
  EXPECT_THAT(
      ErrorOf(TinyLlama().Float32("llama.rope.scaling.factor", 4).F32("rope_freqs.weight", {2})),
      HasSubstr("beside a rope scaling"));
}

class GgufSplitTest : public ::testing::Test {
 protected:
  // Two parts; all metadata stand in the first.
  void WriteParts(uint32_t count, uint32_t second_no, uint32_t num_tensors) {
    dir_.Write("m-00001-of-00002.gguf", TinyLlama(3, "blk.0.ffn_up.weight")
                                            .Uint32("split.count", count)
                                            .Uint32("split.no", 0)
                                            .Uint32("split.tensors.count", num_tensors)
                                            .Build());
    dir_.Write("m-00002-of-00002.gguf", GgufBuilder()
                                            .Uint32("split.count", count)
                                            .Uint32("split.no", second_no)
                                            .F32("blk.0.ffn_up.weight", {8, 12})
                                            .Build());
  }
  absl::Status Open(const char* name = "m-00001-of-00002.gguf") {
    return OpenGguf(dir_.path(name)).status();
  }
  TempDir dir_;
};

TEST_F(GgufSplitTest, OpensAllPartsFromTheFirst) {
  WriteParts(2, 1, 11);
  const auto source = OpenGguf(dir_.path("m-00001-of-00002.gguf"));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->config().name, "m");
  const TensorInfo* up = (*source)->Find("model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(up->file_idx, 1u);
  std::vector<std::byte> row(32);
  EXPECT_EQ((*source)->ReadRows(*up, 11, 1, row), absl::OkStatus());
}

TEST_F(GgufSplitTest, NamesAMissingPart) {
  WriteParts(2, 1, 11);
  std::filesystem::remove(dir_.path("m-00002-of-00002.gguf"));
  EXPECT_EQ(Open().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Open().message()), HasSubstr("m-00002-of-00002.gguf: no such file"));
}

TEST_F(GgufSplitTest, RefusesCountsThatDisagree) {
  WriteParts(3, 1, 11);
  EXPECT_THAT(std::string(Open().message()), HasSubstr("split.count is 3; the file's name says 2"));
  WriteParts(2, 0, 11);
  EXPECT_THAT(std::string(Open().message()), HasSubstr("split.no is 0; expected 1"));
  WriteParts(2, 1, 12);
  EXPECT_THAT(std::string(Open().message()),
              HasSubstr("split.tensors.count is 12; the parts have 11"));
}

TEST_F(GgufSplitTest, AsksForTheFirstPart) {
  WriteParts(2, 1, 11);
  EXPECT_THAT(std::string(Open("m-00002-of-00002.gguf").message()),
              HasSubstr("open the first part"));
}

TEST_F(GgufSplitTest, RefusesATensorThatIsInTwoParts) {
  WriteParts(2, 1, 11);
  dir_.Write("m-00002-of-00002.gguf", GgufBuilder().F32("output_norm.weight", {8}).Build());
  EXPECT_THAT(std::string(Open().message()), HasSubstr("is in another part as well"));
}

TEST(GgufSplitNameTest, ReadsNumberAndCount) {
  const GgufSplitName name = ParseGgufSplitName("big-00003-of-00012.gguf");
  EXPECT_EQ(name.prefix, "big");
  EXPECT_EQ(name.number, 3u);
  EXPECT_EQ(name.count, 12u);
  for (const char* other : {"big.gguf", "big-00003-of-00002.gguf", "big-00000-of-00002.gguf",
                            "big-0003-of-00012.gguf", "-00001-of-00002.gguf"}) {
    EXPECT_EQ(ParseGgufSplitName(other).count, 1u) << other;
  }
}

// gguf_row[2i+j] = hf_row[j*D/2+i] within each head.
TEST(UnpermuteHeadsTest, PutsRowsOfTwoHeadsBack) {
  const size_t head_dim = 6, row_bytes = 3;
  std::vector<std::byte> canonical(2 * head_dim * row_bytes);
  for (size_t i = 0; i < canonical.size(); ++i) canonical[i] = static_cast<std::byte>(i);
  std::vector<std::byte> stored(canonical.size());
  for (size_t h = 0; h < 2; ++h) {
    for (size_t i = 0; i < head_dim / 2; ++i) {
      for (size_t j = 0; j < 2; ++j) {
        std::copy_n(canonical.begin() + (h * head_dim + j * head_dim / 2 + i) * row_bytes,
                    row_bytes, stored.begin() + (h * head_dim + 2 * i + j) * row_bytes);
      }
    }
  }
  std::vector<std::byte> out(stored.size());
  UnpermuteHeads(stored, head_dim, row_bytes, out);
  EXPECT_EQ(out, canonical);
}

TEST(GgufSourceTest, ABiasOfALlamaIsPermutedElementwise) {
  TempDir dir;
  // The last tensor, so that its values stand at the end of the file.
  std::string bytes = TinyLlama()
                          .F32("blk.0.attn_k.bias", {4})
                          .F32("blk.0.attn_v.bias", {4})
                          .F32("blk.0.attn_q.bias", {8})
                          .Build();
  const float stored[8] = {0, 2, 1, 3, 4, 6, 5, 7};
  std::memcpy(bytes.data() + bytes.size() - sizeof(stored), stored, sizeof(stored));
  const auto source = OpenGguf(dir.Write("m.gguf", bytes));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_TRUE((*source)->config().attention_bias);
  const TensorInfo* bias = (*source)->Find("model.layers.0.self_attn.q_proj.bias");
  std::vector<float> read(8);
  ASSERT_EQ((*source)->ReadRows(*bias, 0, 1, std::as_writable_bytes(std::span(read))),
            absl::OkStatus());
  EXPECT_THAT(read, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

}  // namespace
}  // namespace mili

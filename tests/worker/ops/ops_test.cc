// A wrong call is told by op, shape and dtype, and computes nothing.
#include "worker/ops/ops.h"

#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/reference/kernels.h"

namespace mili::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class OpsTest : public ::testing::Test {
 protected:
  static void ExpectMisuse(const absl::Status& status, const std::string& op,
                           const std::string& fact) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(op), HasSubstr(fact)));
  }
  kernels::Matrix MatrixOf(DType dtype, int64_t rows, int64_t cols) {
    return {dtype, bytes_.data(), rows, cols};
  }

  kernels::SingleThread pool_;
  Compute compute_{&kernels::ReferenceKernels(), &pool_};
  std::vector<std::byte> bytes_ = std::vector<std::byte>(1 << 16);
  std::vector<float> floats_ = std::vector<float>(1 << 14);
};

TEST_F(OpsTest, EmbedRefusesAnIdOutsideTheTable) {
  const uint32_t ids[] = {1, 8};
  ExpectMisuse(Embed(compute_, {MatrixOf(DType::kF32, 8, 32), ids, 2, floats_.data()}), "Embed",
               "id 8 of 8");
}

TEST_F(OpsTest, LinearRefusesAWeightOfAnotherWidth) {
  kernels::LinearParams params;
  params.x = floats_.data();
  params.num_tokens = 2;
  params.in_features = 64;
  params.parts[0] = {MatrixOf(DType::kQ4_1, 8, 32), nullptr, floats_.data(), 8};
  params.num_parts = 1;
  params.workspace = bytes_.data();
  ExpectMisuse(Linear(compute_, params), "Linear", "weight q4_1 [8, 32], x [2, 64]");
  params.parts[0].weight.cols = 48;  // half a block
  ExpectMisuse(Linear(compute_, params), "Linear", "q4_1 [8, 48]");
  params.parts[0].weight.cols = 64;
  params.parts[0].y_stride = 7;
  ExpectMisuse(Linear(compute_, params), "Linear", "stride 7");
  params.parts[0].y_stride = 8;
  EXPECT_TRUE(Linear(compute_, params).ok());
}

TEST_F(OpsTest, LinearRefusesANormOfSomethingElse) {
  kernels::AddRmsNormParams norm = {
      floats_.data() + 512, nullptr, floats_.data() + 1024, 1e-5f, 2, 32, floats_.data() + 2048};
  kernels::LinearParams params;
  params.x = floats_.data();
  params.norm = &norm;
  params.num_tokens = 2;
  params.in_features = 32;
  params.parts[0] = {MatrixOf(DType::kF32, 8, 32), nullptr, floats_.data() + 4096, 8};
  params.num_parts = 1;
  params.workspace = bytes_.data();
  ExpectMisuse(Linear(compute_, params), "Linear", "x is the norm's output");
  params.x = norm.out;
  EXPECT_TRUE(Linear(compute_, params).ok());
  norm.num_tokens = 1;
  ExpectMisuse(Linear(compute_, params), "Linear", "norm [1, 32], x [2, 32]");
}

TEST_F(OpsTest, LinearRefusesGateAndUpOfDifferentShapes) {
  kernels::LinearParams params;
  params.x = floats_.data();
  params.silu_mul = true;
  params.num_tokens = 2;
  params.in_features = 32;
  params.parts[0] = {MatrixOf(DType::kF32, 8, 32), nullptr, floats_.data() + 4096, 8};
  params.num_parts = 1;
  params.workspace = bytes_.data();
  ExpectMisuse(Linear(compute_, params), "Linear", "1 parts");
  params.parts[1] = {MatrixOf(DType::kF32, 4, 32), nullptr, floats_.data() + 8192, 4};
  params.num_parts = 2;
  ExpectMisuse(Linear(compute_, params), "Linear", "8 and 4 rows");
}

TEST_F(OpsTest, AddRmsNormRefusesAliasing) {
  ExpectMisuse(
      AddRmsNorm(compute_, {floats_.data(), nullptr, floats_.data(), 1e-5f, 1, 32, floats_.data()}),
      "AddRmsNorm", "[1, 32]");
}

TEST_F(OpsTest, PagedAttentionRefusesAContextOutsideItsPages) {
  const int64_t cu_seqlens[] = {0, 1};
  const int64_t context_lens[] = {33};
  const uint32_t pages[] = {0, 1};
  kernels::PagedAttentionParams params;
  params.q = floats_.data();
  params.q_stride = 64;
  params.out = floats_.data() + 4096;
  params.cu_seqlens = cu_seqlens;
  params.context_lens = context_lens;
  params.page_table = pages;
  params.page_table_stride = 2;
  params.num_seqs = 1;
  params.num_heads = 2;
  params.num_kv_heads = 1;
  params.head_dim = 32;
  params.scale = 1;
  params.kv = {DType::kF32, bytes_.data(), bytes_.data(), 1024, 512, 16};
  ExpectMisuse(PagedAttention(compute_, params), "PagedAttention", "33 tokens, 2 pages");
  params.num_kv_heads = 3;
  ExpectMisuse(PagedAttention(compute_, params), "PagedAttention", "2 heads, 3 KV heads");
}

TEST_F(OpsTest, PagedAttentionRefusesToPrepareWhatItDoesNotAttendTo) {
  const int64_t cu_seqlens[] = {0, 1};
  const int64_t context_lens[] = {1};
  const uint32_t zeros[] = {0, 0};
  const int64_t slots[] = {0, 1};
  float* const floats = floats_.data();
  kernels::QkvPrepareParams prepare = {
      .q = floats,
      .k = floats + 1024,
      .v = floats + 2048,
      .q_stride = 64,
      .kv_stride = 32,
      .rope_cos = floats,
      .rope_sin = floats,
      .positions = zeros,
      .slot_map = slots,
      .num_tokens = 1,
      .num_heads = 2,
      .num_kv_heads = 1,
      .head_dim = 32,
      .kv = {DType::kF32, bytes_.data(), bytes_.data(), 1024, 512, 16}};
  kernels::PagedAttentionParams params = {.q = floats,
                                          .q_stride = 64,
                                          .out = floats + 4096,
                                          .cu_seqlens = cu_seqlens,
                                          .context_lens = context_lens,
                                          .page_table = zeros,
                                          .page_table_stride = 1,
                                          .num_seqs = 1,
                                          .num_heads = 2,
                                          .num_kv_heads = 1,
                                          .head_dim = 32,
                                          .scale = 1,
                                          .kv = prepare.kv,
                                          .prepare = &prepare};
  EXPECT_TRUE(PagedAttention(compute_, params).ok());
  prepare.num_tokens = 2;
  ExpectMisuse(PagedAttention(compute_, params), "PagedAttention", "every new token is prepared");
  prepare.q = floats + 64;
  ExpectMisuse(PagedAttention(compute_, params), "PagedAttention", "2 and 2 heads");
}

TEST_F(OpsTest, SampleAndScoreRefuseWhatLiesOutsideTheVocabulary) {
  kernels::SampleOutcome outcome;
  kernels::SampleParams sample;
  sample.logits = floats_.data();
  sample.vocab_size = 10;
  sample.num_valid_tokens = 11;
  sample.workspace = bytes_.data();
  ExpectMisuse(Sample(compute_, sample, &outcome), "Sample", "11 of 10");
  kernels::ScoreParams score;
  score.logits = floats_.data();
  score.vocab_size = 10;
  score.token_id = 10;
  ExpectMisuse(Score(compute_, score, &outcome), "Score", "10 of 10");
}

TEST_F(OpsTest, RopeTableIsTheSameForAnyBatch) {
  const float inv_freq[] = {1.0f, 0.1f, 0.013f};
  std::vector<uint32_t> positions;
  for (uint32_t i = 0; i < 40; ++i) positions.push_back((i * 37) % 2000);
  std::vector<float> cos(40 * 3);
  std::vector<float> sin(40 * 3);
  RopeTable(inv_freq, positions.data(), 40, 3, cos.data(), sin.data(), pool_);
  for (uint32_t t = 0; t < 40; ++t) {
    float one_cos[3];
    float one_sin[3];
    RopeTable(inv_freq, &positions[t], 1, 3, one_cos, one_sin, pool_);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(one_cos[i], cos[t * 3 + i]);
      EXPECT_EQ(one_sin[i], sin[t * 3 + i]);
      EXPECT_NEAR(one_cos[i], std::cos(double{inv_freq[i]} * positions[t]), 2e-4);
    }
  }
}

}  // namespace
}  // namespace mili::worker

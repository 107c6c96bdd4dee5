// Which steps bring KV into the L2 ahead of attention: no GPU needed.
#include "worker/model/cuda/kv_ahead.h"

#include <gtest/gtest.h>

namespace mili::worker {
namespace {

class KvAheadTest : public ::testing::Test {
 protected:
  KvAheadTest() {
    config_.hidden_size = 1024;
    config_.num_heads = 16;
    config_.num_kv_heads = 8;
    config_.head_dim = 128;
    ws_.decode_plan = ints_;
    ws_.page_table = ints_ + 1;
    ws_.page_table_stride = 7;
    ws_.num_decode_ctas = 264;
  }

  bool IsAny(int32_t num_decode, int32_t num_varlen = 0, bool is_fp8 = false) const {
    CudaStepShape shape;
    shape.num_decode = num_decode;
    shape.num_varlen = num_varlen;
    return KvAheadOf(config_, ws_, shape, is_fp8).plan != nullptr;
  }

  int32_t ints_[2] = {};
  ModelConfig config_;
  CudaWorkspace ws_;
};

TEST_F(KvAheadTest, GoesByThePlanAndPagesOfTheStep) {
  CudaStepShape shape;
  shape.num_decode = 64;
  const gpu::k::KvAhead ahead = KvAheadOf(config_, ws_, shape, false);
  EXPECT_EQ(ahead.plan, ints_);
  EXPECT_EQ(ahead.num_warps, gpu::k::DecodeGridOf(64, 8, 264).num_warps);
  EXPECT_EQ(ahead.page_table, ints_ + 1);
  EXPECT_EQ(ahead.page_table_stride, 7);
}

TEST_F(KvAheadTest, IsForManySequencesAloneAndFewWeights) {
  EXPECT_TRUE(IsAny(32));
  EXPECT_FALSE(IsAny(16));
  EXPECT_FALSE(IsAny(32, 1));
  config_.hidden_size = 4096;  // 32 MiB of weights, with fp8 16
  EXPECT_FALSE(IsAny(32));
  EXPECT_TRUE(IsAny(32, 0, true));
}

}  // namespace
}  // namespace mili::worker

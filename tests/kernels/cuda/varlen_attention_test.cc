#include "tests/kernels/cuda/attention_case.h"

namespace mili::kernels::cuda {
namespace {

// Runs a case with a plan of `surplus` tiles more than it needs.
std::vector<uint16_t> Attend(const AttentionCase& c, bool is_portable, int32_t surplus = 3) {
  const DeviceCase device(c);
  const int32_t num_tiles = VarlenTiles(c.shape(), c.num_rows(), c.num_seqs()) + surplus;
  std::vector<int32_t> host_plan(VarlenPlanInts(num_tiles), -7);
  EXPECT_LE(PlanVarlen(c.shape(), c.cu_seqlens().data(), c.context_lens().data(), c.num_seqs(),
                       num_tiles, host_plan.data()),
            num_tiles - surplus);
  const GpuArray<int32_t> plan(host_plan);
  VarlenAttentionParams params;
  params.shape = c.shape();
  params.q = device.q.data();
  params.q_stride = c.q_stride();
  params.out = device.out.data();
  params.out_stride = c.out_stride();
  params.cache = device.cache;
  params.scale = c.scale();
  params.plan = plan.data();
  params.num_tiles = num_tiles;
  params.is_portable = is_portable;
  EXPECT_EQ(VarlenAttention(params, nullptr), cudaSuccess);
  return device.out.Read();
}

// The parameter is whether to force the portable path.
class VarlenAttentionTest : public GpuTest, public testing::WithParamInterface<bool> {};

TEST_P(VarlenAttentionTest, MatchesTheReferenceForEveryTypeHeadSizeAndGroup) {
  uint32_t seed = 100;
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const int32_t head_dim : {64, 128}) {
      for (const int32_t group : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
        const AttentionShape shape = {dtype, head_dim, 2 * group, 2};
        const AttentionCase c(
            shape, {{1, 1}, {15, 15}, {1, 300}, {0, 0}, {17, 17}, {16, 100}, {130, 130}, {65, 129}},
            ++seed);
        EXPECT_LT(c.Error(Attend(c, GetParam())), AttentionTolerance(dtype))
            << NameOf(dtype) << " head_dim " << head_dim << " group " << group;
      }
    }
  }
}

TEST_P(VarlenAttentionTest, ComputesALongPrompt) {
  const AttentionCase c({DType::kBF16, 128, 8, 2}, {{1000, 1000}}, 11);
  EXPECT_LT(c.Error(Attend(c, GetParam())), AttentionTolerance(DType::kBF16));
}

TEST_P(VarlenAttentionTest, ComputesMoreTilesThanTheGpuHoldsAtOnce) {
  for (const int32_t head_dim : {64, 128}) {
    const AttentionCase c({DType::kBF16, head_dim, 32, 8}, {{900, 900}, {40, 500}, {1, 3}}, 15);
    EXPECT_LT(c.Error(Attend(c, GetParam())), AttentionTolerance(DType::kBF16)) << head_dim;
  }
}

TEST_P(VarlenAttentionTest, ComputesALaterChunkOfAPrompt) {
  const AttentionCase c({DType::kBF16, 128, 8, 2}, {{200, 3001}, {256, 2048}}, 12);
  EXPECT_LT(c.Error(Attend(c, GetParam())), AttentionTolerance(DType::kBF16));
}

TEST_P(VarlenAttentionTest, ComputesDecodeRowsBesideAPrompt) {
  std::vector<TestSequence> sequences;
  for (int32_t i = 0; i < 30; ++i) sequences.push_back({1, 1 + 37 * i});
  sequences.push_back({300, 333});
  const AttentionCase c({DType::kBF16, 128, 16, 8}, sequences, 13);
  EXPECT_LT(c.Error(Attend(c, GetParam())), AttentionTolerance(DType::kBF16));
}

TEST_P(VarlenAttentionTest, GivesTheSameBitsEveryTime) {
  const AttentionCase c({DType::kBF16, 128, 8, 2}, {{500, 700}, {33, 1033}}, 14);
  const std::vector<uint16_t> expected = Attend(c, GetParam());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Attend(c, GetParam(), i), expected);
}

INSTANTIATE_TEST_SUITE_P(Paths, VarlenAttentionTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Portable" : "Fastest"; });

}  // namespace
}  // namespace mili::kernels::cuda

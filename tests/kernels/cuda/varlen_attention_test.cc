#include <algorithm>
#include <memory>

#include "kernels/cuda/attention/plan.h"
#include "tests/kernels/cuda/attention_case.h"

namespace mili::kernels::cuda {
namespace {

int32_t NumSms() {
  int num_sms = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
  return num_sms;
}

// A case on the device with a plan of three tiles more than it needs, for a GPU of num_sms.
struct Varlen {
  Varlen(const AttentionCase& c, bool is_portable, int32_t num_sms)
      : device(c),
        out_bytes(static_cast<size_t>(c.num_rows() * c.out_stride()) * 2),
        workspace(VarlenWorkspaceBytes(c.shape(), num_sms)) {
    EXPECT_EQ(cudaMemset(workspace.data(), 0, VarlenWorkspaceBytes(c.shape(), num_sms)),
              cudaSuccess);
    constexpr int32_t kSurplus = 3;
    params.num_tiles = VarlenTiles(c.shape(), c.num_rows(), c.num_seqs(), num_sms) + kSurplus;
    host_plan.assign(VarlenPlanInts(params.num_tiles), -7);
    use = PlanVarlen(c.shape(), c.cu_seqlens().data(), c.context_lens().data(), c.num_seqs(),
                     params.num_tiles, host_plan.data(), num_sms);
    EXPECT_LE(use.num_tiles, params.num_tiles - kSurplus);
    plan = std::make_unique<GpuArray<int32_t>>(host_plan);
    params.shape = c.shape();
    params.q = device.q.data();
    params.q_stride = c.q_stride();
    params.out = device.out.data();
    params.out_stride = c.out_stride();
    params.cache = device.cache;
    params.scale = c.scale();
    params.plan = plan->data();
    params.num_sms = num_sms;
    params.workspace = use.has_parts ? workspace.data() : nullptr;
    params.is_portable = is_portable;
  }

  std::vector<uint16_t> Run() {
    EXPECT_EQ(cudaMemset(device.out.data(), 0xff, out_bytes), cudaSuccess);
    EXPECT_EQ(VarlenAttention(params, nullptr), cudaSuccess);
    return device.out.Read();
  }

  DeviceCase device;
  size_t out_bytes;
  GpuArray<uint8_t> workspace;
  std::vector<int32_t> host_plan;
  VarlenPlanUse use;
  std::unique_ptr<GpuArray<int32_t>> plan;
  VarlenAttentionParams params;
};

std::vector<uint16_t> Attend(const AttentionCase& c, bool is_portable) {
  return Varlen(c, is_portable, NumSms()).Run();
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
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Attend(c, GetParam()), expected);
}

TEST_P(VarlenAttentionTest, SharesTheKeysOfShortChunksBetweenSms) {
  uint32_t seed = 200;
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const int32_t head_dim : {64, 128}) {
      for (const int32_t group : {1, 3, 4, 8, 16}) {
        const AttentionCase c({dtype, head_dim, 2 * group, 2},
                              {{17, 2500}, {0, 0}, {1, 1}, {40, 40}, {9, 1161}}, ++seed);
        Varlen varlen(c, GetParam(), NumSms());
        EXPECT_TRUE(varlen.use.has_parts);
        const std::vector<uint16_t> expected = varlen.Run();
        EXPECT_LT(c.Error(expected), AttentionTolerance(dtype))
            << NameOf(dtype) << " head_dim " << head_dim << " group " << group;
        // Each launch leaves the workspace as it found it.
        for (int i = 0; i < 3; ++i) EXPECT_EQ(varlen.Run(), expected);
      }
    }
  }
}

TEST_P(VarlenAttentionTest, SharesTheKeysOfOneLongContextAmongManyTiles) {
  std::vector<TestSequence> sequences = {{64, 9000}};
  for (int32_t i = 0; i < 40; ++i) sequences.push_back({50 + i, 50 + 2 * i});
  const AttentionCase c({DType::kBF16, 128, 32, 8}, sequences, 16);
  Varlen varlen(c, GetParam(), NumSms());
  EXPECT_GT(varlen.use.num_tiles * 8, NumSms());
  EXPECT_TRUE(varlen.use.has_parts);
  EXPECT_LT(c.Error(varlen.Run()), AttentionTolerance(DType::kBF16));
}

// Parts wait for others; that must end also where fewer of them run at once.
TEST_P(VarlenAttentionTest, ComputesPartsThatWereCutForMoreSmsThanThereAre) {
  const AttentionCase c({DType::kBF16, 128, 16, 8}, {{20, 6000}, {30, 3000}}, 17);
  Varlen varlen(c, GetParam(), 4 * NumSms());
  EXPECT_GT(varlen.use.num_tiles * 8, NumSms());
  EXPECT_LT(c.Error(varlen.Run()), AttentionTolerance(DType::kBF16));
}

TEST_P(VarlenAttentionTest, ComputesAPlanWithoutPartsWithAndWithoutAWorkspace) {
  const AttentionCase c({DType::kBF16, 128, 8, 2}, {{20, 3000}}, 18);
  Varlen varlen(c, GetParam(), 0);
  EXPECT_FALSE(varlen.use.has_parts);
  EXPECT_LT(c.Error(varlen.Run()), AttentionTolerance(DType::kBF16));
  // A graph of a padded step has one, whatever plan a replay has.
  const GpuArray<uint8_t> workspace(VarlenWorkspaceBytes(c.shape(), NumSms()));
  varlen.params.num_sms = NumSms();
  varlen.params.workspace = workspace.data();
  EXPECT_LT(c.Error(varlen.Run()), AttentionTolerance(DType::kBF16));
}

INSTANTIATE_TEST_SUITE_P(Paths, VarlenAttentionTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Portable" : "Fastest"; });

}  // namespace
}  // namespace mili::kernels::cuda

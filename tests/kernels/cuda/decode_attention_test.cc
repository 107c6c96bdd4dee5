#include "tests/kernels/cuda/attention_case.h"

namespace mili::kernels::cuda {
namespace {

struct Decode {
  Decode(const AttentionCase& c, const DecodeGrid& grid)
      : device(c),
        workspace(DecodeWorkspaceBytes(c.shape(), grid.num_ctas)),
        plan(PlanOf(c, grid)) {
    EXPECT_EQ(cudaMemset(workspace.data(), 0, DecodeWorkspaceBytes(c.shape(), grid.num_ctas)),
              cudaSuccess);
    params.shape = c.shape();
    params.q = device.q.data();
    params.q_stride = c.q_stride();
    params.out = device.out.data();
    params.out_stride = c.out_stride();
    params.cache = device.cache;
    params.scale = c.scale();
    params.plan = plan.data();
    params.grid = grid;
    params.workspace = workspace.data();
  }

  static std::vector<int32_t> PlanOf(const AttentionCase& c, const DecodeGrid& grid) {
    std::vector<int32_t> plan(DecodePlanInts(grid.num_ctas), -1);
    PlanDecode(c.context_lens().data(), c.num_seqs(), c.shape().num_kv_heads, grid, plan.data());
    return plan;
  }

  std::vector<uint16_t> Run() {
    EXPECT_EQ(DecodeAttention(params, nullptr), cudaSuccess);
    return device.out.Read();
  }

  DeviceCase device;
  GpuArray<uint8_t> workspace;
  GpuArray<int32_t> plan;
  DecodeAttentionParams params;
};

class DecodeAttentionTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    int num_sms = 0;
    ASSERT_EQ(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
    num_ctas_ = DecodeCtas(num_sms);
    grids_ = {{num_ctas_, 4}, {num_ctas_ / 2, 8}};
  }

  int32_t num_ctas_ = 0;
  std::vector<DecodeGrid> grids_;  // with few warps and with many
};

std::vector<TestSequence> OneRowEach(const std::vector<int32_t>& context_lens) {
  std::vector<TestSequence> sequences;
  for (const int32_t len : context_lens) sequences.push_back({1, len});
  return sequences;
}

TEST_F(DecodeAttentionTest, MatchesTheReferenceForEveryTypeHeadSizeAndGroup) {
  uint32_t seed = 1;
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const int32_t head_dim : {64, 128}) {
      for (const int32_t group : {1, 2, 3, 4, 5, 6, 7, 8, 16}) {
        const AttentionShape shape = {dtype, head_dim, 2 * group, 2};
        const AttentionCase c(shape, OneRowEach({1, 15, 16, 17, 0, 63, 64, 65, 1000, 129}), ++seed);
        for (const DecodeGrid& grid : grids_) {
          Decode decode(c, grid);
          EXPECT_LT(c.Error(decode.Run()), AttentionTolerance(dtype))
              << NameOf(dtype) << " head_dim " << head_dim << " group " << group << ", "
              << grid.num_warps << " warps";
        }
      }
    }
  }
}

TEST_F(DecodeAttentionTest, SplitsOneLongSequenceOverManyCtas) {
  for (const int32_t len : {1, 100, 1024, 5000, 40001}) {
    const AttentionCase c({DType::kBF16, 128, 8, 2}, OneRowEach({len}), static_cast<uint32_t>(len));
    for (const DecodeGrid& grid : grids_) {
      Decode decode(c, grid);
      EXPECT_LT(c.Error(decode.Run()), AttentionTolerance(DType::kBF16))
          << len << ", " << grid.num_warps << " warps";
    }
  }
}

TEST_F(DecodeAttentionTest, GivesSharesThatSpanSequencesAndHeads) {
  std::vector<int32_t> lens(77);
  std::mt19937 random(5);
  for (int32_t& len : lens) len = random() % 4 == 0 ? 0 : 1 + static_cast<int32_t>(random() % 700);
  const AttentionCase c({DType::kBF16, 128, 16, 8}, OneRowEach(lens), 9);
  for (const int32_t num_ctas : {1, 7, 100, num_ctas_, 4000}) {
    for (const int32_t num_warps : {4, 8}) {
      Decode decode(c, {num_ctas, num_warps});
      EXPECT_LT(c.Error(decode.Run()), AttentionTolerance(DType::kBF16))
          << num_ctas << " CTAs of " << num_warps << " warps";
    }
  }
}

// The parameters: whether launches start before the one ahead has ended, and which grid.
class DecodeReplayTest : public DecodeAttentionTest,
                         public testing::WithParamInterface<std::tuple<bool, int>> {};

TEST_P(DecodeReplayTest, GivesTheSameBitsAtEveryReplayOfAGraph) {
  const AttentionCase c({DType::kBF16, 128, 16, 4}, OneRowEach({3000, 17, 0, 900}), 3);
  Decode decode(c, grids_[std::get<1>(GetParam())]);
  decode.params.pdl = std::get<0>(GetParam());
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(DecodeAttention(decode.params, stream), cudaSuccess);
  EXPECT_EQ(DecodeAttention(decode.params, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  const std::vector<uint16_t> expected = decode.Run();
  EXPECT_LT(c.Error(expected), AttentionTolerance(DType::kBF16));
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(cudaMemset(decode.device.out.data(), 0xff, expected.size() * 2), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_EQ(decode.device.out.Read(), expected);
  }
  ASSERT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

INSTANTIATE_TEST_SUITE_P(Edges, DecodeReplayTest,
                         testing::Combine(testing::Bool(), testing::Values(0, 1)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param) ? "Programmatic" : "Full") +
                                  (std::get<1>(info.param) == 0 ? "FewWarps" : "ManyWarps");
                         });

TEST_F(DecodeAttentionTest, RefusesShapesItHasNoKernelFor) {
  for (const AttentionShape& shape :
       {AttentionShape{DType::kF32, 128, 8, 8}, AttentionShape{DType::kBF16, 96, 8, 8},
        AttentionShape{DType::kBF16, 128, 9, 1}, AttentionShape{DType::kBF16, 128, 9, 2}}) {
    DecodeAttentionParams params;
    params.shape = shape;
    params.grid = {1, 4};
    EXPECT_EQ(DecodeAttention(params, nullptr), cudaErrorInvalidValue);
  }
}

}  // namespace
}  // namespace mili::kernels::cuda

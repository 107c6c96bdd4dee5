// Linear over threads: the same bits with any number of them, and parts of several types.
#include <tuple>

#include "tests/kernels/linear_test_support.h"

namespace mili::kernels {
namespace {

class LinearThreadsTest : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  const CpuKernels& table() const { return TableOf(std::get<0>(GetParam())); }
  DType dtype() const { return std::get<1>(GetParam()); }
  std::mt19937 rng_{17};
};

TEST_P(LinearThreadsTest, ThreadsDoNotMatter) {
  for (const int64_t num_tokens : {1, 19}) {
    const int64_t cols = ColsOf(dtype(), 2048);
    const RandomMatrix weight(dtype(), 211, cols, rng_);
    const std::vector<float> x = RandomFloats(num_tokens * cols, rng_);
    const auto one = RunLinear(table(), weight.matrix(), {}, x, 0, num_tokens, 1);
    for (const int num_threads : {2, 3, 5}) {
      ASSERT_TRUE(
          SameBits(one, RunLinear(table(), weight.matrix(), {}, x, 0, num_tokens, num_threads)))
          << num_threads << " threads";
    }
  }
}

std::string NameOfLinear(const testing::TestParamInfo<std::tuple<std::string, DType>>& info) {
  return std::get<0>(info.param) + "_" + std::string(NameOf(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Tables, LinearThreadsTest,
                         testing::Combine(testing::ValuesIn(AllTables()),
                                          testing::ValuesIn(kAllDTypes)),
                         NameOfLinear);

class LinearPartsTest : public testing::TestWithParam<std::string> {};

TEST_P(LinearPartsTest, PartsOfDifferentTypesShareTheInput) {
  std::mt19937 rng(3);
  const CpuKernels& table = TableOf(GetParam());
  constexpr int64_t kTokens = 5, kCols = 512, kGap = 3;
  const std::vector<float> x = GridActivations(kTokens * kCols, rng);
  const RandomMatrix weights[] = {{DType::kQ4_K, 70, kCols, rng},
                                  {DType::kQ6_K, 19, kCols, rng},
                                  {DType::kF16, 333, kCols, rng}};
  const LaidOut laid_out[] = {
      {table, weights[0].matrix()}, {table, weights[1].matrix()}, {table, weights[2].matrix()}};
  std::vector<float> y[3];
  Workspace workspace(table.linear_workspace_bytes(kTokens, kCols));
  LinearParams params;
  params.x = x.data();
  params.num_tokens = kTokens;
  params.in_features = kCols;
  params.num_parts = 3;
  params.workspace = workspace.data();
  for (int i = 0; i < 3; ++i) {
    const int64_t stride = weights[i].matrix().rows + kGap;
    y[i] = std::vector<float>(kTokens * stride, -77.0f);
    params.parts[i] = {laid_out[i].matrix(), nullptr, y[i].data(), stride};
  }
  SpawningPool pool(3);
  table.linear(params, pool);
  for (int i = 0; i < 3; ++i) {
    const int64_t rows = weights[i].matrix().rows;
    const auto expected = Expected(weights[i].matrix(), {}, x, kTokens);
    std::vector<float> actual;
    for (int64_t t = 0; t < kTokens; ++t) {
      const float* row = y[i].data() + t * (rows + kGap);
      actual.insert(actual.end(), row, row + rows);
      for (int64_t j = 0; j < kGap; ++j) EXPECT_EQ(row[rows + j], -77.0f) << "written past the row";
    }
    EXPECT_LE(RelativeError(actual, expected), 1e-5) << "part " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, LinearPartsTest, testing::ValuesIn(AllTables()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mili::kernels

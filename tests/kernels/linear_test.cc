// Linear of every table against fp32 arithmetic on dequantised weights.
#include <algorithm>
#include <tuple>

#include "tests/kernels/kernel_test_support.h"
#include "tests/support/spawning_pool.h"

namespace mili::kernels {
namespace {

// Largest error over the rms of the outputs. `exact_grid`: activations that int8 holds exactly, so
// only fp32 sums differ. `random`: int8 activations lose about 0.3 % of the rms of the dot product;
// the largest of some thousand outputs is several times that, and weights with a minimum add to it.
struct Tolerance {
  DType dtype;
  double exact_grid;
  double random;
};
constexpr Tolerance kTolerances[] = {
    {DType::kF32, 1e-5, 1e-5},  {DType::kF16, 1e-5, 1e-5},  {DType::kBF16, 1e-5, 1e-5},
    {DType::kQ8_0, 1e-5, 0.04}, {DType::kQ4_0, 1e-5, 0.04}, {DType::kQ4_1, 1e-5, 0.04},
    {DType::kQ5_0, 1e-5, 0.04}, {DType::kQ5_1, 1e-5, 0.04}, {DType::kQ4_K, 1e-5, 0.04},
    {DType::kQ5_K, 1e-5, 0.04}, {DType::kQ6_K, 1e-5, 0.04}};

const Tolerance& ToleranceOf(DType dtype) {
  for (const Tolerance& tolerance : kTolerances) {
    if (tolerance.dtype == dtype) return tolerance;
  }
  ADD_FAILURE() << "no tolerance for " << NameOf(dtype);
  return kTolerances[0];
}

// fp64 sums over dequantised weights.
std::vector<float> Expected(const Matrix& weight, const std::vector<float>& bias,
                            const std::vector<float>& x, int64_t num_tokens) {
  std::vector<float> y(num_tokens * weight.rows);
  std::vector<float> row(weight.cols);
  for (int64_t r = 0; r < weight.rows; ++r) {
    Dequantize(weight.dtype, weight.data + r * RowBytes(weight.dtype, weight.cols), weight.cols,
               row.data());
    for (int64_t t = 0; t < num_tokens; ++t) {
      double sum = bias.empty() ? 0 : bias[r];
      for (int64_t i = 0; i < weight.cols; ++i) {
        sum += static_cast<double>(row[i]) * x[t * weight.cols + i];
      }
      y[t * weight.rows + r] = static_cast<float>(sum);
    }
  }
  return y;
}

// y of tokens [begin, end) of x, contiguous.
std::vector<float> RunLinear(const CpuKernels& table, const Matrix& weight,
                             const std::vector<float>& bias, const std::vector<float>& x,
                             int64_t begin, int64_t end, int num_threads = 1) {
  std::vector<float> y = Poisoned((end - begin) * weight.rows);
  Workspace workspace(table.linear_workspace_bytes(end - begin, weight.cols));
  LinearParams params;
  params.x = x.data() + begin * weight.cols;
  params.num_tokens = end - begin;
  params.in_features = weight.cols;
  params.parts[0] = {weight, bias.empty() ? nullptr : bias.data(), y.data(), weight.rows};
  params.num_parts = 1;
  params.workspace = workspace.data();
  SpawningPool pool(num_threads);
  table.linear(params, pool);
  return y;
}

// Integers times a power of two, with +-127 in every block of 32.
std::vector<float> GridActivations(size_t size, std::mt19937& rng) {
  std::vector<float> x(size);
  float scale = 0;
  for (size_t i = 0; i < size; ++i) {
    if (i % 32 == 0) scale = std::ldexp(1.0f, static_cast<int>(rng() % 6) - 10);
    const int value = i % 32 == 7 ? 127 : static_cast<int>(rng() % 255) - 127;
    x[i] = scale * static_cast<float>(value);
  }
  return x;
}

int64_t ColsOf(DType dtype, int64_t wanted) {
  const int64_t block = TraitsOf(dtype).block_elements;
  return (wanted + block - 1) / block * block;
}

class LinearTest : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  const CpuKernels& table() const { return TableOf(std::get<0>(GetParam())); }
  DType dtype() const { return std::get<1>(GetParam()); }
  std::mt19937 rng_{17};
};

TEST_P(LinearTest, MatchesOddShapes) {
  for (const int64_t num_tokens : {1, 2, 3, 7, 17, 33, 64}) {
    for (const auto& [rows, wanted_cols] :
         {std::pair<int64_t, int64_t>{1, 32}, {5, 37}, {16, 576}, {33, 1059}, {50, 2304}}) {
      const int64_t cols = ColsOf(dtype(), wanted_cols);
      const RandomMatrix weight(dtype(), rows, cols, rng_);
      const std::vector<float> bias =
          rows % 2 == 0 ? std::vector<float>{} : RandomFloats(rows, rng_);
      for (const bool is_grid : {true, false}) {
        const std::vector<float> x = is_grid ? GridActivations(num_tokens * cols, rng_)
                                             : RandomFloats(num_tokens * cols, rng_);
        const auto expected = Expected(weight.matrix(), bias, x, num_tokens);
        const auto actual = RunLinear(table(), weight.matrix(), bias, x, 0, num_tokens);
        const Tolerance& tolerance = ToleranceOf(dtype());
        // A single output may happen to be near zero: compare those with the rows' own size.
        double limit = is_grid ? tolerance.exact_grid : tolerance.random;
        if (rows * num_tokens < 32) limit *= 30;
        EXPECT_LE(RelativeError(actual, expected), limit)
            << rows << "x" << cols << ", " << num_tokens << " tokens, grid " << is_grid;
      }
    }
  }
}

TEST_P(LinearTest, ATokenIsTheSameInEveryBatch) {
  constexpr int64_t kTokens = 70;
  const int64_t cols = ColsOf(dtype(), 1300);
  const RandomMatrix weight(dtype(), 37, cols, rng_);
  const std::vector<float> bias = RandomFloats(37, rng_);
  const std::vector<float> x = RandomFloats(kTokens * cols, rng_);
  const auto whole = RunLinear(table(), weight.matrix(), bias, x, 0, kTokens);
  for (int trial = 0; trial < 12; ++trial) {
    std::vector<float> pieces;
    for (int64_t begin = 0; begin < kTokens;) {
      const int64_t size = trial == 0 ? 1 : 1 + static_cast<int64_t>(rng_() % 20);
      const int64_t end = std::min(kTokens, begin + size);
      const auto piece = RunLinear(table(), weight.matrix(), bias, x, begin, end);
      pieces.insert(pieces.end(), piece.begin(), piece.end());
      begin = end;
    }
    ASSERT_TRUE(SameBits(whole, pieces)) << "trial " << trial;
  }
}

TEST_P(LinearTest, ThreadsDoNotMatter) {
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

TEST_P(LinearTest, ANanStaysInItsRow) {
  const int64_t cols = ColsOf(dtype(), 256);
  const RandomMatrix weight(dtype(), 20, cols, rng_);
  std::vector<float> x = RandomFloats(3 * cols, rng_);
  const auto clean = RunLinear(table(), weight.matrix(), {}, x, 0, 3);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    x[cols + 5] = bad;
    const auto y = RunLinear(table(), weight.matrix(), {}, x, 0, 3);
    for (int64_t r = 0; r < 20; ++r) {
      EXPECT_EQ(y[r], clean[r]);
      EXPECT_FALSE(std::isfinite(y[20 + r]));
      EXPECT_EQ(y[40 + r], clean[40 + r]);
    }
  }
}

TEST_P(LinearTest, ZerosGiveTheBias) {
  const int64_t cols = ColsOf(dtype(), 64);
  const RandomMatrix weight(dtype(), 6, cols, rng_);
  const std::vector<float> bias = RandomFloats(6, rng_);
  EXPECT_EQ(RunLinear(table(), weight.matrix(), bias, std::vector<float>(cols), 0, 1), bias);
}

std::string NameOfLinear(const testing::TestParamInfo<std::tuple<std::string, DType>>& info) {
  return std::get<0>(info.param) + "_" + std::string(NameOf(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Tables, LinearTest,
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
    params.parts[i] = {weights[i].matrix(), nullptr, y[i].data(), stride};
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

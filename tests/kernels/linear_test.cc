// Linear of every table against fp32 arithmetic on dequantised weights.
#include <algorithm>
#include <tuple>

#include "tests/kernels/linear_test_support.h"

namespace mili::kernels {
namespace {

// Largest error over the rms of the outputs. `exact_grid`: activations that int8 holds exactly, so
// only fp32 sums differ. `random`: int8 activations lose about 0.3 % of the rms of the dot product;
// the largest of some thousand outputs is several times that, and weights with a minimum add to it.
// BF16 weights become integers of 14 bits in blocks of 32, as the activations do, or activations
// are two BF16, depending on the table.
struct Tolerance {
  DType dtype;
  double exact_grid;
  double random;
};
constexpr Tolerance kTolerances[] = {
    {DType::kF32, 1e-5, 1e-5},  {DType::kF16, 1e-5, 1e-5},  {DType::kBF16, 6e-4, 6e-4},
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

class LinearTest : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  const CpuKernels& table() const { return TableOf(std::get<0>(GetParam())); }
  DType dtype() const { return std::get<1>(GetParam()); }
  std::mt19937 rng_{17};
};

TEST_P(LinearTest, MatchesOddShapes) {
  for (const int64_t num_tokens : {1, 2, 3, 7, 17, 33, 64}) {
    for (const auto& [rows, wanted_cols] :
         {std::pair<int64_t, int64_t>{1, 32}, {5, 37}, {16, 576}, {33, 1059}, {21, 2304}}) {
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

// So many tokens of so many columns are multiplied in several blocks, which begin at other tokens
// in each piece.
TEST_P(LinearTest, ATokenIsTheSameInEveryBlockOfTokens) {
  constexpr int64_t kTokens = 300;
  const int64_t cols = ColsOf(dtype(), 2304);
  const RandomMatrix weight(dtype(), 17, cols, rng_);
  const std::vector<float> x = RandomFloats(kTokens * cols, rng_);
  const auto whole = RunLinear(table(), weight.matrix(), {}, x, 0, kTokens);
  for (int trial = 0; trial < 4; ++trial) {
    std::vector<float> pieces;
    for (int64_t begin = 0; begin < kTokens;) {
      const int64_t end = std::min<int64_t>(kTokens, begin + 1 + rng_() % 299);
      const auto piece = RunLinear(table(), weight.matrix(), {}, x, begin, end, 1 + trial % 3);
      pieces.insert(pieces.end(), piece.begin(), piece.end());
      begin = end;
    }
    ASSERT_TRUE(SameBits(whole, pieces)) << "trial " << trial;
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

}  // namespace
}  // namespace mili::kernels

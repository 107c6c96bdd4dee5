// Dequantisation against the values of the gguf Python package.
#include "kernels/reference/dequant.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace mili::kernels {
namespace {

std::string ReadGolden(const std::string& name) {
  std::ifstream in(std::string(MILI_TEST_DATA "/dequant/") + name, std::ios::binary);
  EXPECT_TRUE(in.good()) << name;
  return {std::istreambuf_iterator<char>(in), {}};
}

class DequantTest : public testing::TestWithParam<DType> {};

TEST_P(DequantTest, EqualsTheGoldenValues) {
  const std::string name(NameOf(GetParam()));
  const std::string blocks = ReadGolden(name + ".bin");
  const std::string golden = ReadGolden(name + ".f32");
  std::vector<float> expected(golden.size() / sizeof(float));
  std::memcpy(expected.data(), golden.data(), golden.size());
  ASSERT_FALSE(expected.empty());
  ASSERT_EQ(blocks.size(), RowBytes(GetParam(), expected.size()));
  std::vector<float> actual(expected.size(), std::numeric_limits<float>::quiet_NaN());
  Dequantize(GetParam(), reinterpret_cast<const std::byte*>(blocks.data()), actual.size(),
             actual.data());
  for (size_t i = 0; i < actual.size(); ++i) {
    // The products are formed in another order at most.
    ASSERT_NEAR(actual[i], expected[i], 2e-7 * std::fabs(expected[i]) + 1e-30) << "element " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, DequantTest,
                         testing::Values(DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                                         DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K,
                                         DType::kQ5_K, DType::kQ6_K),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

TEST(HalfTest, ConvertsEveryClassOfNumber) {
  EXPECT_EQ(HalfToFloat(0x0000), 0.0f);
  EXPECT_TRUE(std::signbit(HalfToFloat(0x8000)));
  EXPECT_EQ(HalfToFloat(0x3c00), 1.0f);
  EXPECT_EQ(HalfToFloat(0xc000), -2.0f);
  EXPECT_EQ(HalfToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(0x83ff), -0x3ffp-24f);
  EXPECT_EQ(HalfToFloat(0x7c00), std::numeric_limits<float>::infinity());
  EXPECT_EQ(HalfToFloat(0xfc00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(HalfToFloat(0x7e00)));
}

TEST(Bf16Test, RoundsToNearestEven) {
  const auto round_trip = [](float x) { return Bf16ToFloat(FloatToBf16(x)); };
  EXPECT_EQ(round_trip(1.0f), 1.0f);
  EXPECT_EQ(round_trip(1.0f + 0x1p-8f), 1.0f);                      // a tie: to even
  EXPECT_EQ(round_trip(1.0f + 0x1p-7f + 0x1p-8f), 1.0f + 0x1p-6f);  // a tie: to even
  EXPECT_EQ(round_trip(1.0f + 0x1p-8f + 0x1p-20f), 1.0f + 0x1p-7f);
  EXPECT_EQ(round_trip(std::numeric_limits<float>::max()), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(round_trip(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace mili::kernels

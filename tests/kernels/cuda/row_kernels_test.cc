// The GPU's row kernels against the reference's in fp32, on what the 16-bit inputs stand for: what
// they write may differ by one rounding.
#include <cmath>

#include "kernels/cuda/embed/embed.h"
#include "kernels/cuda/norm/add_rms_norm.h"
#include "kernels/cuda/quantize/quantize_fp8.h"
#include "kernels/cuda/silu/silu_mul.h"
#include "kernels/params.h"
#include "kernels/reference/activation.h"
#include "kernels/reference/norm.h"
#include "tests/kernels/cuda/device_array.h"

namespace mili::kernels::cuda {
namespace {

void ExpectClose(const std::vector<float>& got, const std::vector<float>& want, float relative,
                 const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  int shown = 0;
  for (size_t i = 0; i < want.size() && shown < 3; ++i) {
    if (std::fabs(got[i] - want[i]) <= relative * std::fabs(want[i]) + 2e-6f) continue;
    ADD_FAILURE() << what << ": element " << i << " is " << got[i] << ", not " << want[i];
    ++shown;
  }
}

// e4m3 without infinities: 4 bits of exponent with bias 7, 3 of mantissa.
float Fp8ToFloat(uint8_t bits) {
  const int exponent = bits >> 3 & 15;
  const int mantissa = bits & 7;
  if ((bits & 0x7f) == 0x7f) return NAN;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(8.0f + mantissa, exponent - 10);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

// An fp8 output of rows, and whether it stands for `want`.
struct Fp8Result {
  Fp8Result(int32_t num_rows, int32_t size) : values(size_t(num_rows) * size), scales(num_rows) {}
  Fp8Rows Rows() const { return {values.data(), scales.data()}; }

  void Expect(const std::vector<float>& want, const std::string& what) const {
    const std::vector<uint8_t> bits = values.Read();
    const std::vector<float> of_rows = scales.Read();
    const size_t size = bits.size() / of_rows.size();
    for (size_t row = 0; row < of_rows.size(); ++row) {
      float amax = 0;
      for (size_t i = 0; i < size; ++i) amax = std::max(amax, std::fabs(want[row * size + i]));
      const float scale = amax == 0 ? 1 : amax / 448;
      ASSERT_NEAR(of_rows[row], scale, scale * 1e-5) << what << " row " << row;
      for (size_t i = 0; i < size; ++i) {
        const float value = want[row * size + i];
        const float got = Fp8ToFloat(bits[row * size + i]) * of_rows[row];
        // Half a unit of 3 bits, at least of the smallest subnormal.
        const float limit = std::max(std::fabs(value) / 16, scale * 0x1p-10f) * 1.001f;
        ASSERT_LE(std::fabs(got - value), limit) << what << " row " << row << " element " << i;
      }
    }
  }

  GpuArray<uint8_t> values;
  GpuArray<float> scales;
};

class RowKernels : public GpuTest {
 protected:
  std::mt19937 random_{std::random_device()()};
  NoThreads pool_;

  std::vector<float> Normed(std::vector<float> rows, const std::vector<float>& weight, float eps) {
    std::vector<float> out(rows.size());
    const auto size = static_cast<int64_t>(weight.size());
    reference::AddRmsNorm({.residual = rows.data(),
                           .weight = weight.data(),
                           .eps = eps,
                           .num_tokens = static_cast<int64_t>(rows.size()) / size,
                           .hidden_size = size,
                           .out = out.data()},
                          pool_);
    return out;
  }
};

struct RowShape {
  int32_t num_tokens;
  int32_t size;
};
constexpr RowShape kShapes[] = {{1, 8},    {3, 24},    {257, 64},  {5, 1024}, {7, 2056},
                                {2, 4096}, {33, 5120}, {4, 16384}, {1, 896}};

TEST_F(RowKernels, AddRmsNormAddsAndNorms) {
  for (const DType dtype : kHalfTypes) {
    for (const auto& [num_tokens, size] : kShapes) {
      const std::string what = std::to_string(num_tokens) + " x " + std::to_string(size);
      const Halves residual(dtype, size_t(num_tokens) * size, random_, 2);
      const Halves delta(dtype, residual.bits.size(), random_);
      const Halves weight(dtype, size, random_);
      std::vector<uint16_t> sum(residual.bits.size());
      for (size_t i = 0; i < sum.size(); ++i) {
        sum[i] = ToBits(dtype, residual.values[i] + delta.values[i]);
      }
      const GpuArray<uint16_t> d_residual(residual.bits), d_delta(delta.bits),
          d_weight(weight.bits);
      const GpuArray<uint16_t> out(sum.size());
      const Fp8Result fp8(num_tokens, size);
      AddRmsNormParams p;
      p.dtype = dtype;
      p.residual = d_residual.data();
      p.delta = d_delta.data();
      p.weight = d_weight.data();
      p.num_tokens = num_tokens;
      p.hidden_size = size;
      p.out = out.data();
      p.fp8 = fp8.Rows();
      ASSERT_EQ(AddRmsNorm(p, nullptr), cudaSuccess);
      const std::vector<float> want = Normed(Decoded(dtype, sum), weight.values, p.eps);
      ExpectClose(Decoded(dtype, out.Read()), want, RoundingOf(dtype), what);
      EXPECT_EQ(d_residual.Read(), sum) << what;
      fp8.Expect(want, what);
    }
  }
}

TEST_F(RowKernels, AddRmsNormWithoutDeltaLeavesTheResidual) {
  const Halves residual(DType::kBF16, 3 * 512, random_);
  const Halves weight(DType::kBF16, 512, random_);
  const GpuArray<uint16_t> d_residual(residual.bits), d_weight(weight.bits), out(3 * 512);
  AddRmsNormParams p;
  p.residual = d_residual.data();
  p.weight = d_weight.data();
  p.num_tokens = 3;
  p.hidden_size = 512;
  p.out = out.data();
  ASSERT_EQ(AddRmsNorm(p, nullptr), cudaSuccess);
  EXPECT_EQ(d_residual.Read(), residual.bits);
  ExpectClose(Decoded(p.dtype, out.Read()), Normed(residual.values, weight.values, p.eps),
              RoundingOf(p.dtype), "no delta");
}

TEST_F(RowKernels, AddRmsNormGathersRows) {
  for (const DType dtype : kHalfTypes) {
    const int32_t size = 1040;
    const Halves residual(dtype, 6 * size, random_), delta(dtype, 6 * size, random_);
    const Halves weight(dtype, size, random_);
    const std::vector<int32_t> rows = {5, 0, -1, 5, 3};
    std::vector<float> chosen(rows.size() * size, 0.0f);
    for (size_t r = 0; r < rows.size(); ++r) {
      for (int32_t i = 0; i < size && rows[r] >= 0; ++i) {
        const size_t from = size_t(rows[r]) * size + i;
        chosen[r * size + i] =
            FromBits(dtype, ToBits(dtype, residual.values[from] + delta.values[from]));
      }
    }
    const GpuArray<uint16_t> d_residual(residual.bits), d_delta(delta.bits), d_weight(weight.bits);
    const GpuArray<int32_t> d_rows(rows);
    const GpuArray<uint16_t> out(chosen.size());
    AddRmsNormParams p;
    p.dtype = dtype;
    p.residual = d_residual.data();
    p.delta = d_delta.data();
    p.weight = d_weight.data();
    p.row_idxs = d_rows.data();
    p.num_tokens = static_cast<int32_t>(rows.size());
    p.hidden_size = size;
    p.out = out.data();
    ASSERT_EQ(AddRmsNorm(p, nullptr), cudaSuccess);
    ExpectClose(Decoded(dtype, out.Read()), Normed(chosen, weight.values, p.eps), RoundingOf(dtype),
                "gathered");
    EXPECT_EQ(d_residual.Read(), residual.bits);
  }
}

TEST_F(RowKernels, EmbedTakesKnownAndFedTokens) {
  for (const DType dtype : kHalfTypes) {
    for (const int32_t size : {8, 576, 1024, 4096, 16384}) {
      const int32_t vocab_size = 50;
      const Halves table(dtype, size_t(vocab_size) * size, random_), weight(dtype, size, random_);
      const std::vector<int32_t> token_ids = {49, 0, -1, 7, 50, 3}, feed = {-1, -1, 2, 0, -1, 1};
      const std::vector<int32_t> last = {11, 48, 5};
      const int32_t expected[] = {49, 0, 5, 11, -1, 48};
      std::vector<uint16_t> want(token_ids.size() * size, 0);
      for (size_t t = 0; t < token_ids.size(); ++t) {
        if (expected[t] < 0) continue;
        std::copy_n(&table.bits[size_t(expected[t]) * size], size, &want[t * size]);
      }
      const GpuArray<uint16_t> d_table(table.bits), d_weight(weight.bits);
      const GpuArray<int32_t> d_ids(token_ids), d_feed(feed), d_last(last);
      const GpuArray<uint16_t> out(want.size()), normed(want.size());
      EmbedParams p;
      p.dtype = dtype;
      p.table = d_table.data();
      p.token_ids = d_ids.data();
      p.feed_slots = d_feed.data();
      p.last_tokens = d_last.data();
      p.num_tokens = static_cast<int32_t>(token_ids.size());
      p.vocab_size = vocab_size;
      p.hidden_size = size;
      p.out = out.data();
      p.norm_weight = d_weight.data();
      p.normed = normed.data();
      ASSERT_EQ(Embed(p, nullptr), cudaSuccess);
      EXPECT_EQ(out.Read(), want) << size;
      ExpectClose(Decoded(dtype, normed.Read()), Normed(Decoded(dtype, want), weight.values, p.eps),
                  RoundingOf(dtype), "embedded and normed");
    }
  }
}

TEST_F(RowKernels, SiluMulReadsInterleavedGroups) {
  for (const DType dtype : kHalfTypes) {
    for (const auto& [num_tokens, size] :
         {RowShape{1, 8}, {3, 72}, {300, 128}, {5, 3072}, {9, 12288}, {2, 14336}, {1, 32768}}) {
      const Halves gate_up(dtype, size_t(num_tokens) * size * 2, random_, 4);
      std::vector<float> gate(size_t(num_tokens) * size), up(gate.size()), want(gate.size());
      for (size_t i = 0; i < gate.size(); ++i) {
        gate[i] = gate_up.values[i / 8 * 16 + i % 8];
        up[i] = gate_up.values[i / 8 * 16 + 8 + i % 8];
      }
      reference::SiluMul({.gate = gate.data(),
                          .up = up.data(),
                          .num_tokens = num_tokens,
                          .size = size,
                          .out = want.data()},
                         pool_);
      const std::string what = std::to_string(num_tokens) + " x " + std::to_string(size);
      const GpuArray<uint16_t> in(gate_up.bits), out(want.size()), out_beside(want.size());
      const Fp8Result fp8(num_tokens, size);
      SiluMulParams p;
      p.dtype = dtype;
      p.gate_up = in.data();
      p.num_tokens = num_tokens;
      p.size = size;
      p.out = out.data();
      ASSERT_EQ(SiluMul(p, nullptr), cudaSuccess);
      ExpectClose(Decoded(dtype, out.Read()), want, RoundingOf(dtype), what);
      p.out = out_beside.data();
      p.fp8 = fp8.Rows();
      ASSERT_EQ(SiluMul(p, nullptr), cudaSuccess);
      EXPECT_EQ(out_beside.Read(), out.Read());
      fp8.Expect(want, what);
    }
  }
}

TEST_F(RowKernels, QuantizeScalesEachRow) {
  for (const DType dtype : kHalfTypes) {
    for (const auto& [num_rows, size] : {RowShape{1, 8}, {70, 2048}, {3, 4104}, {2, 32768}}) {
      Halves in(dtype, size_t(num_rows) * size, random_, 3);
      std::fill_n(in.bits.begin(), size, uint16_t{0});  // a row of zeros
      std::fill_n(in.values.begin(), size, 0.0f);
      const GpuArray<uint16_t> d_in(in.bits);
      const Fp8Result fp8(num_rows, size);
      QuantizeFp8Params p;
      p.dtype = dtype;
      p.in = d_in.data();
      p.in_stride = size;
      p.num_rows = num_rows;
      p.size = size;
      p.out = fp8.Rows();
      ASSERT_EQ(QuantizeFp8(p, nullptr), cudaSuccess);
      fp8.Expect(in.values, std::to_string(num_rows) + " x " + std::to_string(size));
    }
  }
}

TEST_F(RowKernels, RefuseWhatTheyCannotDo) {
  AddRmsNormParams norm;
  norm.num_tokens = 1;
  norm.hidden_size = 12;
  EXPECT_EQ(AddRmsNorm(norm, nullptr), cudaErrorInvalidValue);
  norm.hidden_size = 16392;
  EXPECT_EQ(AddRmsNorm(norm, nullptr), cudaErrorInvalidValue);
  norm.hidden_size = 16;
  norm.dtype = DType::kF32;
  EXPECT_EQ(AddRmsNorm(norm, nullptr), cudaErrorInvalidValue);
  SiluMulParams silu;
  silu.num_tokens = 1;
  silu.size = 32776;
  EXPECT_EQ(SiluMul(silu, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace mili::kernels::cuda

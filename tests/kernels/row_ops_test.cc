// Embedding, norm, activation and q/k/v preparation of every table.
#include <algorithm>

#include "tests/kernels/kernel_test_support.h"
#include "tests/support/spawning_pool.h"

namespace mili::kernels {
namespace {

class RowOpsTest : public testing::TestWithParam<std::string> {
 protected:
  const CpuKernels& table() const { return TableOf(GetParam()); }
  std::mt19937 rng_{11};
};

TEST_P(RowOpsTest, EmbedCopiesDequantisedRows) {
  SpawningPool pool(2);
  for (const DType dtype : kAllDTypes) {
    const int64_t cols = 512;
    const RandomMatrix weights(dtype, 9, cols, rng_);
    const std::vector<uint32_t> ids = {8, 0, 3, 3, 7};
    std::vector<float> out = Poisoned(ids.size() * cols);
    const LaidOut laid_out(table(), weights.matrix());
    table().embed({laid_out.matrix(), ids.data(), 5, out.data()}, pool);
    std::vector<float> row(cols);
    for (size_t t = 0; t < ids.size(); ++t) {
      Dequantize(dtype, weights.matrix().data + ids[t] * RowBytes(dtype, cols), cols, row.data());
      // As integers BF16 weights may be off by half of 1/4096 of their block's largest.
      const auto [least, most] = std::minmax_element(row.begin(), row.end());
      const float limit = dtype == DType::kBF16 ? std::max(-*least, *most) / 8192 : 0;
      for (int64_t i = 0; i < cols; ++i) {
        ASSERT_NEAR(out[t * cols + i], row[i], limit) << NameOf(dtype) << " column " << i;
      }
    }
  }
}

TEST_P(RowOpsTest, AddRmsNormUpdatesTheResidualAndNorms) {
  for (const int64_t hidden : {1, 7, 64, 576, 1027}) {
    for (const int64_t num_tokens : {1, 3, 33, 64}) {
      for (const bool has_delta : {true, false}) {
        const std::vector<float> before = RandomFloats(num_tokens * hidden, rng_, 3);
        const std::vector<float> delta = RandomFloats(num_tokens * hidden, rng_);
        const std::vector<float> weight = RandomFloats(hidden, rng_);
        std::vector<float> expected_residual = before, expected(before.size());
        for (int64_t t = 0; t < num_tokens; ++t) {
          double sum = 0;
          for (int64_t i = t * hidden; i < (t + 1) * hidden; ++i) {
            if (has_delta) expected_residual[i] += delta[i];
            sum += static_cast<double>(expected_residual[i]) * expected_residual[i];
          }
          const double scale = 1 / std::sqrt(sum / static_cast<double>(hidden) + 1e-5);
          for (int64_t i = 0; i < hidden; ++i) {
            expected[t * hidden + i] =
                static_cast<float>(expected_residual[t * hidden + i] * scale * weight[i]);
          }
        }
        std::vector<float> first;
        for (const int num_threads : {1, 3}) {
          std::vector<float> residual = before, out = Poisoned(before.size());
          SpawningPool pool(num_threads);
          table().add_rms_norm({residual.data(), has_delta ? delta.data() : nullptr, weight.data(),
                                1e-5f, num_tokens, hidden, out.data()},
                               pool);
          EXPECT_TRUE(SameBits(residual, expected_residual));
          EXPECT_LE(RelativeError(out, expected), 2e-6) << hidden << " x " << num_tokens;
          if (first.empty()) first = out;
          EXPECT_TRUE(SameBits(out, first)) << num_threads << " threads";
        }
      }
    }
  }
}

TEST_P(RowOpsTest, SiluMulHoldsOverTheWholeRange) {
  for (const int64_t size : {1, 5, 16, 1537}) {
    for (const int64_t num_tokens : {1, 3, 64}) {
      const int64_t count = num_tokens * size;
      const std::vector<float> gate = RandomFloats(count, rng_, 20);
      const std::vector<float> up = RandomFloats(count, rng_);
      std::vector<float> first;
      for (const int num_threads : {1, 3}) {
        std::vector<float> out = Poisoned(count);
        SpawningPool pool(num_threads);
        table().silu_mul({gate.data(), up.data(), num_tokens, size, out.data()}, pool);
        for (int64_t i = 0; i < count; ++i) {
          const double x = gate[i];
          const double expected = x / (1 + std::exp(-x)) * up[i];
          ASSERT_NEAR(out[i], expected, 6e-7 * std::fabs(expected) + 1e-35) << "gate " << x;
        }
        if (first.empty()) first = out;
        EXPECT_TRUE(SameBits(out, first));
      }
      std::vector<float> in_place = gate;
      SpawningPool pool(1);
      table().silu_mul({in_place.data(), up.data(), num_tokens, size, in_place.data()}, pool);
      EXPECT_TRUE(SameBits(in_place, first));
    }
  }
}

TEST_P(RowOpsTest, SiluMulOfExtremes) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> gate = {0,      -0.0f, 88.7f, -88.7f, 1e30f,
                             -1e30f, inf,   89,    -200,   std::numeric_limits<float>::quiet_NaN()};
  const std::vector<float> up(gate.size(), 1);
  std::vector<float> out = Poisoned(gate.size());
  SingleThread pool;
  table().silu_mul({gate.data(), up.data(), 1, 10, out.data()}, pool);
  EXPECT_EQ(out[0], 0);
  EXPECT_EQ(out[1], 0);
  EXPECT_EQ(out[2], 88.7f);
  EXPECT_NEAR(out[3], 0, 1e-35);
  EXPECT_EQ(out[4], 1e30f);
  EXPECT_EQ(out[5], 0);
  EXPECT_EQ(out[6], inf);
  EXPECT_EQ(out[7], 89);
  EXPECT_EQ(out[8], 0);
  EXPECT_TRUE(std::isnan(out[9]));
}

// Inputs of a q/k/v preparation and what must come of them, in plain arithmetic.
class PrepareCase {
 public:
  static constexpr int64_t kPageSize = 16, kPages = 7, kPositions = 50;

  PrepareCase(int64_t num_tokens, int64_t head_dim, bool has_norm, std::mt19937& rng)
      : num_tokens_(num_tokens), head_dim_(head_dim), has_norm_(has_norm) {
    q_ = RandomFloats(num_tokens * QStride(), rng);
    k_ = RandomFloats(num_tokens * KvStride(), rng);
    v_ = RandomFloats(num_tokens * KvStride(), rng);
    q_norm_ = RandomFloats(head_dim, rng);
    k_norm_ = RandomFloats(head_dim, rng);
    for (int64_t i = 0; i < kPositions * head_dim / 2; ++i) {
      cos_.push_back(std::cos(static_cast<float>(i)));
      sin_.push_back(std::sin(static_cast<float>(i)));
    }
    std::vector<int64_t> slots(kPages * kPageSize);
    for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(i);
    std::shuffle(slots.begin(), slots.end(), rng);
    slots_.assign(slots.begin(), slots.begin() + num_tokens);
    for (int64_t t = 0; t < num_tokens; ++t) positions_.push_back(rng() % kPositions);
  }

  void Check(const CpuKernels& table, DType kv_dtype, int num_threads) const {
    std::vector<float> q = q_, k = k_;
    const size_t element = TraitsOf(kv_dtype).block_bytes;
    std::vector<std::byte> kv(kPages * PageStride() * element, std::byte{0x5a});
    const std::vector<std::byte> untouched = kv;
    QkvPrepareParams p;
    p.q = q.data();
    p.k = k.data();
    p.v = v_.data();
    p.q_stride = QStride();
    p.kv_stride = KvStride();
    p.q_norm = has_norm_ ? q_norm_.data() : nullptr;
    p.k_norm = has_norm_ ? k_norm_.data() : nullptr;
    p.rope_cos = cos_.data();
    p.rope_sin = sin_.data();
    p.positions = positions_.data();
    p.slot_map = slots_.data();
    p.num_tokens = num_tokens_;
    p.num_heads = kHeads;
    p.num_kv_heads = kKvHeads;
    p.head_dim = head_dim_;
    p.kv = {kv_dtype,     kv.data(),    kv.data() + kKvHeads * HeadStride() * element,
            PageStride(), HeadStride(), kPageSize};
    SpawningPool pool(num_threads);
    table.qkv_prepare(p, pool);

    const double kv_tolerance = kv_dtype == DType::kF32 ? 3e-6 : 4e-3;  // bf16 keeps 8 bits
    size_t num_written = 0;
    for (int64_t t = 0; t < num_tokens_; ++t) {
      for (int64_t h = 0; h < kHeads; ++h) {
        const int64_t at = t * QStride() + h * head_dim_;
        ExpectNear(Prepared(q_, at, q_norm_, t), q.data() + at, 3e-6);
      }
      for (int64_t h = 0; h < kKvHeads; ++h) {
        const int64_t at = t * KvStride() + h * head_dim_;
        const int64_t slot = slots_[t] / kPageSize * PageStride() + h * HeadStride() +
                             slots_[t] % kPageSize * head_dim_;
        ExpectNear(Prepared(k_, at, k_norm_, t), Read(kv_dtype, p.kv.k, slot), kv_tolerance);
        const std::vector<float> v(v_.begin() + at, v_.begin() + at + head_dim_);
        ExpectNear(v, Read(kv_dtype, p.kv.v, slot), kv_tolerance);
        num_written += 2 * head_dim_ * element;
      }
    }
    size_t num_changed = 0;
    for (size_t i = 0; i < kv.size(); ++i) num_changed += kv[i] != untouched[i];
    EXPECT_LE(num_changed, num_written);
  }

 private:
  static constexpr int64_t kHeads = 6, kKvHeads = 2;
  int64_t QStride() const { return kHeads * head_dim_ + 3; }
  int64_t KvStride() const { return kKvHeads * head_dim_ + 5; }
  int64_t HeadStride() const { return kPageSize * head_dim_; }
  int64_t PageStride() const { return 2 * kKvHeads * HeadStride() + 8; }

  std::vector<float> Prepared(const std::vector<float>& from, int64_t at,
                              const std::vector<float>& norm, int64_t t) const {
    std::vector<double> head(from.begin() + at, from.begin() + at + head_dim_);
    if (has_norm_) {
      double sum = 0;
      for (double x : head) sum += x * x;
      const double scale = 1 / std::sqrt(sum / static_cast<double>(head_dim_) + 1e-6);
      for (int64_t i = 0; i < head_dim_; ++i) head[i] *= scale * norm[i];
    }
    const int64_t half = head_dim_ / 2;
    std::vector<float> result(head_dim_);
    for (int64_t i = 0; i < half; ++i) {
      const double c = cos_[positions_[t] * half + i], s = sin_[positions_[t] * half + i];
      result[i] = static_cast<float>(head[i] * c - head[i + half] * s);
      result[i + half] = static_cast<float>(head[i + half] * c + head[i] * s);
    }
    return result;
  }
  std::vector<float> Read(DType dtype, const std::byte* base, int64_t offset) const {
    std::vector<float> head(head_dim_);
    Dequantize(dtype, base + offset * TraitsOf(dtype).block_bytes, head_dim_, head.data());
    return head;
  }
  template <typename Values>
  void ExpectNear(const std::vector<float>& expected, const Values& actual,
                  double tolerance) const {
    for (int64_t i = 0; i < head_dim_; ++i) {
      ASSERT_NEAR(actual[i], expected[i], tolerance * (1 + std::fabs(expected[i])));
    }
  }

  int64_t num_tokens_, head_dim_;
  bool has_norm_;
  std::vector<float> q_, k_, v_, q_norm_, k_norm_, cos_, sin_;
  std::vector<uint32_t> positions_;
  std::vector<int64_t> slots_;
};

TEST_P(RowOpsTest, QkvPrepareNormsRotatesAndWritesPages) {
  for (const int64_t head_dim : {6, 32, 64, 80, 128}) {
    for (const int64_t num_tokens : {1, 2, 33, 64}) {
      for (const bool has_norm : {true, false}) {
        const PrepareCase c(num_tokens, head_dim, has_norm, rng_);
        c.Check(table(), DType::kBF16, 1);
        c.Check(table(), DType::kF32, 3);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, RowOpsTest, testing::ValuesIn(AllTables()),
                         [](const auto& info) { return info.param; });

TEST(TablesTest, NamesAreFoundAndTheBestComesFirst) {
  const std::vector<std::string> names = RunnableTables();
  EXPECT_EQ(names.back(), "portable");
  EXPECT_EQ(BestCpuKernels().name, names.front());
  for (const std::string& name : names) {
    ASSERT_NE(FindCpuKernels(name.c_str()), nullptr) << name;
    EXPECT_EQ(FindCpuKernels(name.c_str())->name, name);
    EXPECT_EQ(FindCpuKernels(name.c_str())->kv_dtype, DType::kBF16);
  }
  EXPECT_EQ(FindCpuKernels("sse9"), nullptr);
  EXPECT_EQ(FindCpuKernels(""), nullptr);
  EXPECT_STREQ(ReferenceKernels().name, "reference");
}

}  // namespace
}  // namespace mili::kernels

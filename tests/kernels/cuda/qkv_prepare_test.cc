// The GPU's QKV preparation against the reference's in fp32: one rounding apart, and nothing
// written that should stay.
#include "kernels/cuda/qkv_prepare/qkv_prepare.h"

#include <cmath>

#include "kernels/cuda/attention/paged_attention.h"
#include "kernels/params.h"
#include "kernels/reference/qkv_prepare.h"
#include "tests/kernels/cuda/device_array.h"

namespace mili::kernels::cuda {
namespace {

struct QkvShape {
  int32_t num_tokens, num_heads, num_kv_heads, head_dim;
  bool has_bias, has_norm, keeps_kv;
};

class QkvPrepareGpu : public GpuTest {
 protected:
  std::mt19937 random_{std::random_device()()};
  NoThreads pool_;
  static constexpr int32_t kPositions = 300;

  // A plan of decodes with the pages that it may look up; the others lie far outside of the cache.
  struct Ahead {
    Ahead(const std::vector<int32_t>& lens, int32_t num_kv_heads, int32_t num_pages)
        : stride(*std::max_element(lens.begin(), lens.end()) / 16 + 2),
          plan(PlanOf(lens, num_kv_heads)),
          table(TableOf(lens, stride, num_pages)) {}

    static std::vector<int32_t> PlanOf(const std::vector<int32_t>& lens, int32_t num_kv_heads) {
      std::vector<int32_t> plan(DecodePlanInts(kCtas));
      PlanDecode(lens.data(), static_cast<int32_t>(lens.size()), num_kv_heads, {kCtas, 4},
                 plan.data());
      return plan;
    }
    static std::vector<int32_t> TableOf(const std::vector<int32_t>& lens, int32_t stride,
                                        int32_t num_pages) {
      std::vector<int32_t> table(lens.size() * stride, 1 << 29);
      for (size_t s = 0; s < lens.size(); ++s) {
        for (int32_t i = 0; i * 16 < lens[s]; ++i) table[s * stride + i] = i % num_pages;
      }
      return table;
    }
    KvAhead params() const { return {plan.data(), 4, table.data(), stride}; }

    static constexpr int32_t kCtas = 264;
    int32_t stride;
    GpuArray<int32_t> plan, table;
  };

  void Check(DType dtype, const QkvShape& s, bool brings_kv) {
    const int32_t width = (s.num_heads + 2 * s.num_kv_heads) * s.head_dim;
    const int32_t stride = width + 16;
    const int32_t num_pages = s.num_tokens / 16 + 5;
    const Halves qkv(dtype, size_t(s.num_tokens) * stride, random_), bias(dtype, width, random_);
    const Halves q_norm(dtype, s.head_dim, random_), k_norm(dtype, s.head_dim, random_);
    const std::vector<float> cos = Table(s.head_dim, [](double x) { return std::cos(x); });
    const std::vector<float> sin = Table(s.head_dim, [](double x) { return std::sin(x); });
    std::vector<int32_t> positions(s.num_tokens), slots(num_pages * 16);
    for (int32_t& position : positions) position = static_cast<int32_t>(random_() % kPositions);
    for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int32_t>(i);
    std::shuffle(slots.begin(), slots.end(), random_);
    slots.resize(s.num_tokens);
    for (int32_t& slot : slots) slot = random_() % 5 == 0 ? -1 : slot;
    const int64_t page_stride = int64_t{2} * s.num_kv_heads * 16 * s.head_dim + 24;

    const GpuArray<uint16_t> d_qkv(qkv.bits), d_bias(bias.bits), d_q_norm(q_norm.bits);
    const GpuArray<uint16_t> d_k_norm(k_norm.bits), pages(num_pages * page_stride);
    const GpuArray<float> d_cos(cos), d_sin(sin);
    const GpuArray<int32_t> d_positions(positions), d_slots(slots);
    QkvPrepareParams p;
    p.dtype = dtype;
    p.qkv = d_qkv.data();
    p.qkv_stride = stride;
    p.bias = s.has_bias ? d_bias.data() : nullptr;
    p.q_norm = s.has_norm ? d_q_norm.data() : nullptr;
    p.k_norm = s.has_norm ? d_k_norm.data() : nullptr;
    p.rope_cos = d_cos.data();
    p.rope_sin = d_sin.data();
    p.positions = d_positions.data();
    p.slot_map = d_slots.data();
    p.num_tokens = s.num_tokens;
    p.num_heads = s.num_heads;
    p.num_kv_heads = s.num_kv_heads;
    p.head_dim = s.head_dim;
    p.pages = pages.data();
    p.page_stride = page_stride;
    p.keep_kv = s.keeps_kv;
    const Ahead ahead({1, 0, 17, 300, 5000}, s.num_kv_heads, num_pages);
    if (brings_kv) p.ahead = ahead.params();
    ASSERT_EQ(cuda::QkvPrepare(p, nullptr), cudaSuccess);

    // The reference, on a copy of what goes in and fp32 pages.
    std::vector<float> rows = qkv.values;
    for (size_t i = 0; i < rows.size() && s.has_bias; ++i) {
      if (i % stride < size_t(width)) rows[i] += bias.values[i % stride];
    }
    const int64_t half_page = int64_t{s.num_kv_heads} * 16 * s.head_dim;
    std::vector<float> want_pages((num_pages + 1) * page_stride, NAN);
    std::vector<uint32_t> u_positions(positions.begin(), positions.end());
    std::vector<int64_t> l_slots(slots.begin(), slots.end());
    for (int64_t& slot : l_slots) slot = slot < 0 ? num_pages * 16 : slot;  // a page nobody has
    reference::QkvPrepare({.q = rows.data(),
                           .k = rows.data() + s.num_heads * s.head_dim,
                           .v = rows.data() + (s.num_heads + s.num_kv_heads) * s.head_dim,
                           .q_stride = stride,
                           .kv_stride = stride,
                           .q_norm = s.has_norm ? q_norm.values.data() : nullptr,
                           .k_norm = s.has_norm ? k_norm.values.data() : nullptr,
                           .eps = p.eps,
                           .rope_cos = cos.data(),
                           .rope_sin = sin.data(),
                           .positions = u_positions.data(),
                           .slot_map = l_slots.data(),
                           .num_tokens = s.num_tokens,
                           .num_heads = s.num_heads,
                           .num_kv_heads = s.num_kv_heads,
                           .head_dim = s.head_dim,
                           .kv = {DType::kF32, reinterpret_cast<std::byte*>(want_pages.data()),
                                  reinterpret_cast<std::byte*>(want_pages.data() + half_page),
                                  page_stride, 16 * s.head_dim, 16}},
                          pool_);
    ExpectRows(dtype, Decoded(dtype, d_qkv.Read()), qkv.values, rows, slots, s, stride);
    const std::vector<float> got = Decoded(dtype, pages.Read());
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::isnan(want_pages[i])) {
        ASSERT_TRUE(std::isnan(got[i])) << "page element " << i << " was written";
      } else {
        const size_t partner =
            PartnerOf(i % page_stride, s.head_dim) + i / page_stride * page_stride;
        ASSERT_NEAR(got[i], want_pages[i], Limit(dtype, want_pages[i], want_pages[partner]))
            << "page element " << i;
      }
    }
  }

 private:
  template <typename Fn>
  static std::vector<float> Table(int32_t head_dim, Fn&& fn) {
    std::vector<float> table;
    for (int32_t position = 0; position < kPositions; ++position) {
      for (int32_t i = 0; i < head_dim / 2; ++i) {
        const double angle = position * std::pow(10000.0, -2.0 * i / head_dim);
        table.push_back(static_cast<float>(fn(angle)));
      }
    }
    return table;
  }

  // The element that this one is rotated with.
  static size_t PartnerOf(size_t element, int32_t head_dim) {
    const size_t half = head_dim / 2;
    return element % head_dim < half ? element + half : element - half;
  }

  // One rounding to dtype, and the fp32 sums before it. Those are off by parts of what is added,
  // not of the difference that may be left: of the pair's length, which rotating keeps. The sum of
  // up to 256 squares, taken in another order, and the rotation's products give some 2^-21 of it.
  static float Limit(DType dtype, float want, float partner) {
    return RoundingOf(dtype) * std::fabs(want) + 0x1p-19f * std::hypot(want, partner) + 0x1p-25f;
  }

  // q is rotated, k and v only where they are kept; padding and what lies between rows stays.
  static void ExpectRows(DType dtype, const std::vector<float>& got,
                         const std::vector<float>& before, const std::vector<float>& after,
                         const std::vector<int32_t>& slots, const QkvShape& s, int32_t stride) {
    const int32_t q_width = s.num_heads * s.head_dim;
    const int32_t width = q_width + 2 * s.num_kv_heads * s.head_dim;
    for (size_t i = 0; i < got.size(); ++i) {
      const int32_t column = static_cast<int32_t>(i % stride);
      const bool changes = slots[i / stride] >= 0 && column < (s.keeps_kv ? width : q_width);
      const float want = changes ? after[i] : before[i];
      const size_t partner = i - column + PartnerOf(column, s.head_dim);
      const float limit = changes ? Limit(dtype, want, after[partner]) : 0.0f;
      ASSERT_NEAR(got[i], want, limit) << "token " << i / stride << " column " << column;
    }
  }
};

TEST_F(QkvPrepareGpu, NormsRotatesAndWritesPages) {
  for (const DType dtype : kHalfTypes) {
    for (const QkvShape& s : {QkvShape{1, 16, 8, 128, false, true, false},
                              {256, 16, 8, 128, false, true, false},
                              {65, 32, 8, 128, true, false, true},
                              {64, 9, 3, 64, false, false, false},
                              {77, 9, 3, 64, true, true, true},
                              {130, 1, 1, 16, true, true, false},
                              {13, 3, 1, 256, false, true, true},
                              {200, 14, 2, 64, true, false, false},
                              {100, 5, 5, 32, false, false, true},
                              {2100, 37, 1, 64, true, true, false}}) {
      SCOPED_TRACE(testing::Message() << s.num_tokens << " tokens, " << s.num_heads << "/"
                                      << s.num_kv_heads << " heads of " << s.head_dim);
      Check(dtype, s, false);
      Check(dtype, s, true);
    }
  }
}

}  // namespace
}  // namespace mili::kernels::cuda

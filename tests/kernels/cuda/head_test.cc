// The head that finds the best tokens: its logits against double precision, its choice against
// those logits, and rows of all kinds side by side.
#include "kernels/cuda/head/head.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/cuda/sample/sample.h"
#include "tests/kernels/cuda/device_array.h"

namespace mili::kernels::cuda {
namespace {

struct HeadShape {
  DType dtype = DType::kBF16;
  int32_t num_rows = 256;
  int32_t vocab_size = 2048;
  int32_t num_valid_tokens = 2048;
  int32_t k = 128;
};

// What one call of head and sampling leaves.
struct HeadRun {
  std::vector<float> logits;
  std::vector<SampledRow> rows;
  std::vector<int32_t> last_tokens;
};

class CudaHead : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    cudaDeviceGetAttribute(&num_sms_, cudaDevAttrMultiProcessorCount, 0);
    if (major != 9) GTEST_SKIP() << "no Hopper GPU";
    ASSERT_EQ(PrepareHead(), cudaSuccess);
  }

  // Row r is of slots[r].
  HeadRun Run(const HeadShape& shape, const Halves& x, const Halves& w,
              const std::vector<SlotSampling>& slots) const {
    const GpuArray<uint16_t> dx(x.bits), dw(w.bits);
    const GpuArray<SlotSampling> dslots(slots);
    std::vector<int32_t> of_rows(shape.num_rows), positions(shape.num_rows, 7);
    for (int32_t r = 0; r < shape.num_rows; ++r) of_rows[r] = r;
    const GpuArray<int32_t> row_slots(of_rows), dpositions(positions);
    const int32_t parts = HeadParts(num_sms_, shape.vocab_size);
    const GpuArray<float> logits(size_t(shape.num_rows) * shape.vocab_size);
    const GpuArray<uint64_t> best(size_t(shape.num_rows) * parts);
    const GpuArray<uint8_t> workspace(SampleWorkspaceBytes(shape.num_rows, shape.vocab_size));
    const GpuArray<SampledRow> out(shape.num_rows);
    const GpuArray<int32_t> last_tokens(shape.num_rows);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(Head({.dtype = shape.dtype,
                    .x = dx.data(),
                    .x_stride = shape.k,
                    .w = dw.data(),
                    .num_rows = shape.num_rows,
                    .vocab_size = shape.vocab_size,
                    .num_valid_tokens = shape.num_valid_tokens,
                    .k = shape.k,
                    .row_slots = row_slots.data(),
                    .slots = dslots.data(),
                    .logits = logits.data(),
                    .logits_stride = shape.vocab_size,
                    .best = best.data()},
                   num_sms_, nullptr),
              cudaSuccess);
    EXPECT_EQ(Sample({.logits = logits.data(),
                      .logits_stride = shape.vocab_size,
                      .best = best.data(),
                      .num_best = parts,
                      .num_rows = shape.num_rows,
                      .vocab_size = shape.vocab_size,
                      .num_valid_tokens = shape.num_valid_tokens,
                      .row_slots = row_slots.data(),
                      .positions = dpositions.data(),
                      .slots = dslots.data(),
                      .last_tokens = last_tokens.data(),
                      .out = out.data(),
                      .workspace = workspace.data()},
                     nullptr),
              cudaSuccess);
    return {logits.Read(), out.Read(), last_tokens.Read()};
  }

  static std::vector<SlotSampling> Slots(int32_t count, bool is_plain) {
    SlotSampling slot;
    if (!is_plain) slot.num_top = 0;
    return std::vector<SlotSampling>(count, slot);
  }

  // The first of the largest of valid logits.
  static int32_t BestOf(const float* row, int32_t num_valid) {
    return static_cast<int32_t>(std::max_element(row, row + num_valid) - row);
  }

  int32_t num_sms_ = 0;
};

TEST_F(CudaHead, ItsLogitsAreTheProduct) {
  std::mt19937 random(1);
  for (const DType dtype : kHalfTypes) {
    for (const auto& [rows, vocab, k] : {std::tuple{1, 208, 64},
                                         {33, 1600, 80},
                                         {65, 1008, 72},
                                         {128, 384, 1024},
                                         {200, 2064, 576},
                                         {256, 3008, 200}}) {
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(vocab) + " x " +
                   std::to_string(k));
      const HeadShape shape = {dtype, rows, vocab, vocab, k};
      const Halves x(dtype, size_t(rows) * k, random), w(dtype, size_t(vocab) * k, random);
      const HeadRun run = Run(shape, x, w, Slots(rows, false));
      for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < vocab; ++v) {
          double want = 0;
          double size = 0;
          for (int i = 0; i < k; ++i) {
            const double product = double(x.values[r * k + i]) * w.values[v * k + i];
            want += product;
            size += std::abs(product);
          }
          ASSERT_NEAR(run.logits[size_t(r) * vocab + v], want, 1e-5 * size)
              << "row " << r << " token " << v;
        }
        ASSERT_EQ(run.rows[r].token_id, BestOf(&run.logits[size_t(r) * vocab], vocab));
      }
    }
  }
}

TEST_F(CudaHead, FindsTheFirstOfTheLargestAndWritesNoLogits) {
  std::mt19937 random(2);
  for (const auto& [rows, vocab, valid, k] : {std::tuple{1, 16, 16, 64},
                                              {256, 151936, 151669, 128},
                                              {97, 50256, 50251, 200},
                                              {64, 151936, 151669, 64},
                                              {130, 2048, 1900, 64},
                                              {20, 4000, 4000, 96},
                                              {256, 384, 193, 64}}) {
    for (const DType dtype : kHalfTypes) {
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(vocab));
      const HeadShape shape = {dtype, rows, vocab, valid, k};
      Halves x(dtype, size_t(rows) * k, random);
      Halves w(dtype, size_t(vocab) * k, random);
      // Equal tokens: every row of w stands twice or more.
      for (int v = vocab / 2; v < vocab; ++v) {
        std::copy_n(w.bits.begin() + size_t(v * 7 % (vocab / 2)) * k, k,
                    w.bits.begin() + size_t(v) * k);
      }
      const HeadRun all = Run(shape, x, w, Slots(rows, false));
      const HeadRun plain = Run(shape, x, w, Slots(rows, true));
      for (int r = 0; r < rows; ++r) {
        const int32_t best = BestOf(&all.logits[size_t(r) * vocab], valid);
        ASSERT_EQ(all.rows[r].token_id, best);
        ASSERT_EQ(plain.rows[r].token_id, best) << "row " << r;
        ASSERT_EQ(plain.last_tokens[r], best);
      }
      ASSERT_TRUE(std::all_of(plain.logits.begin(), plain.logits.end(),
                              [](float x) { return std::isnan(x); }));
    }
  }
}

TEST_F(CudaHead, WritesTheLogitsOfThoseRowsThatNeedThem) {
  std::mt19937 random(3);
  for (const int32_t num_rows : {24, 64, 100, 250}) {
    SCOPED_TRACE(std::to_string(num_rows) + " rows");
    const HeadShape shape = {
        .num_rows = num_rows, .vocab_size = 5008, .num_valid_tokens = 4990, .k = 256};
    const Halves x(shape.dtype, size_t(shape.num_rows) * shape.k, random);
    const Halves w(shape.dtype, size_t(shape.vocab_size) * shape.k, random);
    const HeadRun all = Run(shape, x, w, Slots(shape.num_rows, false));
    std::vector<SlotSampling> slots = Slots(shape.num_rows, true);
    const auto is_plain = [](int r) { return r % 3 == 0 || (r > 100 && r < 140); };
    const GpuArray<SlotBias> bias(std::vector<SlotBias>{{4321, 1e6f}});
    for (int r = 0; r < shape.num_rows; ++r) {
      if (is_plain(r)) continue;
      if (r % 3 == 1) {
        slots[r].temperature = 1;
        slots[r].top_k = 1;
      } else {
        slots[r].num_biases = 1;
        slots[r].biases = bias.data();
      }
    }
    const HeadRun mixed = Run(shape, x, w, slots);
    for (int r = 0; r < shape.num_rows; ++r) {
      const float* row = &mixed.logits[size_t(r) * shape.vocab_size];
      const float* want = &all.logits[size_t(r) * shape.vocab_size];
      const int32_t best = BestOf(want, shape.num_valid_tokens);
      if (is_plain(r)) {
        ASSERT_TRUE(std::isnan(row[0]) && std::isnan(row[shape.vocab_size - 1])) << "row " << r;
      } else {
        ASSERT_TRUE(std::equal(row, row + shape.vocab_size, want)) << "row " << r;
      }
      ASSERT_EQ(mixed.rows[r].token_id, is_plain(r) || r % 3 == 1 ? best : 4321) << "row " << r;
    }
  }
}

TEST_F(CudaHead, SaysWhyThereIsNoToken) {
  std::mt19937 random(4);
  const HeadShape shape = {.num_rows = 70, .vocab_size = 1008, .num_valid_tokens = 900, .k = 64};
  Halves x(shape.dtype, size_t(shape.num_rows) * shape.k, random);
  Halves w(shape.dtype, size_t(shape.vocab_size) * shape.k, random);
  x.bits[5 * shape.k + 3] = 0x7fff;                               // NaN
  for (int i = 0; i < shape.k; ++i) x.bits[6 * shape.k + i] = 0;  // all logits 0
  const HeadRun run = Run(shape, x, w, Slots(shape.num_rows, true));
  for (int r = 0; r < shape.num_rows; ++r) {
    EXPECT_EQ(run.rows[r].flags, r == 5 ? kSampledNan : 0u) << "row " << r;
    EXPECT_EQ(run.rows[r].token_id < 0, r == 5) << "row " << r;
    EXPECT_EQ(run.last_tokens[r], std::max(run.rows[r].token_id, 0));
  }
  EXPECT_EQ(run.rows[6].token_id, 0);
}

}  // namespace
}  // namespace mili::kernels::cuda

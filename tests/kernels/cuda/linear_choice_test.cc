// Which kernel a linear layer takes: what was timed, or else what is known. Needs no GPU.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/linear/choice.h"

namespace mili::kernels::cuda {
namespace {

constexpr SkinnyDevice kH100 = {132, 232448, 115712};

class LinearChoice : public ::testing::Test {
 protected:
  // Of the o projection of Qwen3-0.6B.
  static LinearParams Params(int32_t num_rows) {
    LinearParams p;
    p.x_stride = p.k = 2048;
    p.y_stride = p.n = 1024;
    p.num_rows = num_rows;
    return p;
  }
  static LinearParams GateUp(int32_t num_rows, bool silu_mul) {
    LinearParams p = Params(num_rows);
    p.silu_mul = silu_mul;
    return p;
  }
  AlgoTable::Entry Chosen(const LinearParams& params) const {
    AlgoTable::Entry entry;
    EXPECT_TRUE(choice_.Choose(params, &entry));
    return entry;
  }
  void Tune(const LinearParams& params, const AlgoTable::Entry& entry) {
    choice_.tuned().Set(ShapeOf(params), entry);
  }

  KernelChoice choice_{/*is_hopper=*/true, kH100};
};

TEST_F(LinearChoice, TakesOtherKernelsForMoreRows) {
  EXPECT_EQ(Chosen(Params(1)).kernel, LinearKernel::kSkinny);
  EXPECT_EQ(Chosen(Params(64)).kernel, LinearKernel::kWide);
  EXPECT_EQ(Chosen(Params(1024)).kernel, LinearKernel::kLibrary);
}

TEST_F(LinearChoice, LeavesOtherDevicesToTheLibrary) {
  const KernelChoice older(/*is_hopper=*/false, kH100);
  AlgoTable::Entry entry;
  ASSERT_TRUE(older.Choose(Params(1), &entry));
  EXPECT_EQ(entry.kernel, LinearKernel::kLibrary);
  LinearParams normed = Params(1);
  normed.norm_weight = &normed;
  EXPECT_FALSE(older.Choose(normed, &entry));
  EXPECT_FALSE(older.IsFasterFused(GateUp(1, true)));
}

TEST_F(LinearChoice, TakesWhatWasTimed) {
  Tune(Params(160), {LinearKernel::kLibrary, {7}, 4.0f});
  EXPECT_EQ(Chosen(Params(160)).algo[0], 7u);
  EXPECT_EQ(Chosen(Params(80)).algo[0], 7u);
  EXPECT_EQ(Chosen(Params(79)).algo[0], 0u);
  Tune(Params(1024), {LinearKernel::kWide, {2, 4}, 4.0f});
  EXPECT_EQ(CutOf(Chosen(Params(1000))).splits, 4);
}

TEST_F(LinearChoice, LeavesFewRowsToTheRuleButForLogits) {
  for (const int32_t rows : {64, 128}) Tune(Params(rows), {LinearKernel::kLibrary, {7}, 4.0f});
  EXPECT_EQ(Chosen(Params(64)).kernel, LinearKernel::kWide);
  EXPECT_EQ(Chosen(Params(65)).kernel, LinearKernel::kLibrary);
  Tune(GateUp(128, true), {LinearKernel::kWide, {1, 1}, 8.0f});
  Tune(GateUp(128, false), {LinearKernel::kLibrary, {}, 1.0f});
  EXPECT_TRUE(choice_.IsFasterFused(GateUp(64, true)));
  LinearParams logits = Params(64);
  logits.is_y_f32 = true;
  Tune(logits, {LinearKernel::kLibrary, {7}, 4.0f});
  EXPECT_EQ(Chosen(logits).algo[0], 7u);
}

TEST_F(LinearChoice, DoesNotTakeWhatCannotRun) {
  Tune(Params(96), {LinearKernel::kWide, {3, 5}, 4.0f});
  EXPECT_EQ(Chosen(Params(96)).kernel, LinearKernel::kLibrary);
  Tune(Params(256), {LinearKernel::kWide, {3, 1}, 4.0f});
  EXPECT_EQ(Chosen(Params(256)).kernel, LinearKernel::kLibrary);
  Tune(Params(512), {LinearKernel::kSkinny, {}, 4.0f});
  EXPECT_EQ(Chosen(Params(512)).kernel, LinearKernel::kLibrary);
}

TEST_F(LinearChoice, TakesTheGatedKernelForManyGatedRows) {
  EXPECT_EQ(Chosen(GateUp(256, true)).kernel, LinearKernel::kWide);
  for (const int32_t rows : {512, 8192}) {
    const AlgoTable::Entry entry = Chosen(GateUp(rows, true));
    EXPECT_EQ(entry.kernel, LinearKernel::kGated) << rows;
    EXPECT_TRUE(IsGatedTile(GroupsOf(entry))) << rows;
    EXPECT_EQ(Chosen(GateUp(rows, false)).kernel, LinearKernel::kLibrary) << rows;
  }
  Tune(GateUp(128, true), {LinearKernel::kGated, {2}, 4.0f});
  EXPECT_EQ(GroupsOf(Chosen(GateUp(128, true))), 2);
  Tune(GateUp(128, true), {LinearKernel::kGated, {4}, 4.0f});
  EXPECT_EQ(Chosen(GateUp(128, true)).kernel, LinearKernel::kWide);
}

TEST_F(LinearChoice, TimesBothTilesOfTheGatedKernelOnlyWhereEitherMayWin) {
  const auto count = [&](int32_t rows) {
    const std::vector<AlgoTable::Entry> candidates = choice_.OwnCandidates(GateUp(rows, true));
    return std::count_if(candidates.begin(), candidates.end(), [](const AlgoTable::Entry& entry) {
      return entry.kernel == LinearKernel::kGated;
    });
  };
  EXPECT_EQ(count(64), 0);
  EXPECT_EQ(count(512), 2);
  EXPECT_EQ(count(2048), 1);
}

TEST_F(LinearChoice, FusesTheNormOfAnyK) {
  for (const int32_t k : {64, 576, 1024, 4096}) {
    LinearParams normed = Params(3);
    normed.x_stride = normed.k = k;
    normed.norm_weight = &normed;
    EXPECT_TRUE(choice_.TakesSkinny(normed)) << k;
    normed.w_scales = &normed.norm_eps;
    EXPECT_TRUE(choice_.TakesSkinny(normed)) << k << " in fp8";
  }
}

TEST_F(LinearChoice, FusesSiluWhereThatWasFaster) {
  EXPECT_TRUE(choice_.IsFasterFused(GateUp(8, true)));
  EXPECT_TRUE(choice_.IsFasterFused(GateUp(64, true)));
  EXPECT_FALSE(choice_.IsFasterFused(GateUp(128, true)));
  Tune(GateUp(128, true), {LinearKernel::kWide, {1, 1}, 8.0f});
  Tune(GateUp(128, false), {LinearKernel::kLibrary, {}, 7.0f});
  EXPECT_TRUE(choice_.IsFasterFused(GateUp(128, true)));
  Tune(GateUp(128, false), {LinearKernel::kLibrary, {}, 4.0f});
  EXPECT_FALSE(choice_.IsFasterFused(GateUp(128, true)));
}

// For 256 rows of an 8B model the kernel for SiLU takes about 9 us.
TEST_F(LinearChoice, CountsTheKernelForSiluWhereTheProductLeavesItOut) {
  LinearParams fused = GateUp(256, true);
  fused.n = 24576;
  LinearParams apart = fused;
  apart.silu_mul = false;
  Tune(fused, {LinearKernel::kGated, {3}, 90.0f});
  Tune(apart, {LinearKernel::kLibrary, {}, 84.0f});
  EXPECT_TRUE(choice_.IsFasterFused(fused));
  Tune(apart, {LinearKernel::kLibrary, {}, 80.0f});
  EXPECT_FALSE(choice_.IsFasterFused(fused));
}

TEST_F(LinearChoice, FusesSiluWithManyRowsThatFillTheTiles) {
  for (const int32_t rows : {480, 512, 1000, 1024, 2112, 8192}) {
    EXPECT_TRUE(choice_.IsFasterFused(GateUp(rows, true))) << rows;
  }
  for (const int32_t rows : {300, 600, 1025}) {
    EXPECT_FALSE(choice_.IsFasterFused(GateUp(rows, true))) << rows;
  }
}

TEST_F(LinearChoice, GivesMostMultiprocessorsABlockOfTheWideKernel) {
  // 16 tiles of 64 rows.
  const WideCut cut = WideCuts(Params(64), kH100).front();
  EXPECT_EQ(cut.groups, 1);
  EXPECT_EQ(cut.splits, 4);
  LinearParams longer = Params(64);
  longer.k = 3072;
  EXPECT_EQ(WideCuts(longer, kH100).front().splits, 4);
  longer.k = 4096;
  EXPECT_EQ(WideCuts(longer, kH100).front().splits, 8);
  // 128 tiles of 192 rows for 132 multiprocessors.
  LinearParams large = Params(128);
  large.n = 24576;
  EXPECT_EQ(WideCuts(large, kH100).front().groups, 3);
  large.n = 28672;
  EXPECT_EQ(WideCuts(large, kH100).front().groups, 2);
  large.n = 24576;
  large.num_rows = 129;
  EXPECT_EQ(WideCuts(large, kH100).front().groups, 2);
  for (const int32_t rows : {64, 128, 256}) {
    large.num_rows = rows;
    for (const WideCut& each : WideCuts(large, kH100)) EXPECT_TRUE(IsWideCut(each, rows)) << rows;
  }
}

}  // namespace
}  // namespace mili::kernels::cuda

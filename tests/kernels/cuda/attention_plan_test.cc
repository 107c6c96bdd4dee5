// The plans of attention are made on the host: these tests need no GPU.
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/attention/paged_attention.h"
#include "kernels/cuda/attention/plan.h"

namespace mili::kernels::cuda {
namespace {

struct DecodePlan {
  DecodePlan(const std::vector<int32_t>& lens, int32_t num_kv_heads, int32_t num_ctas)
      : ints(DecodePlanInts(num_ctas), -1) {
    PlanDecode(lens.data(), static_cast<int32_t>(lens.size()), num_kv_heads, num_ctas, ints.data());
  }
  const DecodePlanHeader& header() const {
    return *reinterpret_cast<const DecodePlanHeader*>(ints.data());
  }
  const DecodeShare* shares() const { return reinterpret_cast<const DecodeShare*>(&header() + 1); }
  std::vector<int32_t> ints;
};

TEST(DecodePlanTest, GivesEveryBlockToOneShareInOrderAndSharesOfEqualSize) {
  constexpr int32_t kHeads = 3;
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> lens(1 + random() % 40);
    for (int32_t& len : lens) len = random() % 3 == 0 ? 0 : static_cast<int32_t>(random() % 2000);
    const auto num_ctas = static_cast<int32_t>(1 + random() % 300);
    const DecodePlan plan(lens, kHeads, num_ctas);
    int32_t c = 0, used = 0, flat = 0;
    for (int32_t s = 0; s < static_cast<int32_t>(lens.size()); ++s) {
      for (int32_t h = 0; h < kHeads; ++h) {
        for (int32_t b = 0; b * kDecodeBlock < lens[s]; ++b, ++flat, ++used) {
          if (used == plan.shares()[c].num_blocks) {
            ++c;
            used = 0;
          }
          ASSERT_LT(c, plan.header().num_active);
          if (used == 0) {
            ASSERT_EQ(plan.shares()[c].seq, s);
            ASSERT_EQ(plan.shares()[c].kv_head, h);
            ASSERT_EQ(plan.shares()[c].block, b);
            ASSERT_EQ(plan.shares()[c].len, lens[s]);
          }
          ASSERT_EQ(ShareOf(flat, plan.header().total_blocks, plan.header().num_active), c);
        }
      }
    }
    ASSERT_EQ(plan.header().total_blocks, flat);
    ASSERT_LE(plan.header().num_active, std::min(flat, num_ctas));
    for (int32_t i = 0; i < num_ctas; ++i) {
      const int32_t size = plan.shares()[i].num_blocks;
      if (i >= plan.header().num_active) {
        ASSERT_EQ(size, 0);
      } else {
        ASSERT_GE(size, flat / plan.header().num_active);
        ASSERT_LE(size, std::max((flat + num_ctas - 1) / num_ctas, kMaxWholeBlocks));
      }
    }
  }
}

TEST(DecodePlanTest, CutsEqualLengthsWhereTheyEnd) {
  const DecodePlan plan(std::vector<int32_t>(64, 256), 8, 264);
  ASSERT_EQ(plan.header().num_active, 256);
  for (int32_t c = 0; c < 256; ++c) {
    EXPECT_EQ(plan.shares()[c].block, 0);
    EXPECT_EQ(plan.shares()[c].num_blocks, 8);
  }
}

TEST(DecodePlanTest, LeavesShortContextsInOnePiece) {
  for (const int32_t len : {16, 128, 256}) {
    const DecodePlan plan({len, 0, len}, 8, 264);
    ASSERT_EQ(plan.header().num_active, 16) << len;
    for (int32_t c = 0; c < 16; ++c) {
      EXPECT_EQ(plan.shares()[c].block, 0) << len;
      EXPECT_EQ(plan.shares()[c].kv_head, c % 8) << len;
    }
  }
}

TEST(DecodePlanTest, CutsALongContextIntoNoSmallerPiecesThanPay) {
  const DecodePlan plan({1024}, 8, 264);
  ASSERT_EQ(plan.header().num_active, 8 * 16 / kMinShareBlocks);
  EXPECT_EQ(plan.shares()[0].num_blocks, kMinShareBlocks);
}

TEST(DecodePlanTest, LeavesNothingToDoForPaddingAlone) {
  const DecodePlan plan({0, 0, 0}, 8, 264);
  for (int32_t c = 0; c < 264; ++c) EXPECT_EQ(plan.shares()[c].num_blocks, 0);
}

TEST(DecodePlanTest, CountsBlocksPastThirtyTwoBitsOfProducts) {
  // 256 sequences of 128k tokens: blocks times shares is more than 2^31.
  const DecodePlan plan(std::vector<int32_t>(256, 131072), 8, 1000);
  EXPECT_EQ(plan.header().total_blocks, 256 * 8 * 2048);
  EXPECT_EQ(plan.shares()[999].seq, 255);
  EXPECT_EQ(ShareOf(plan.header().total_blocks - 1, plan.header().total_blocks, 1000), 999);
}

TEST(VarlenPlanTest, CoversEveryRowOnceWithTheMostKeysFirst) {
  std::mt19937 random(2);
  for (const int32_t group : {1, 3, 4, 7, 16}) {
    const AttentionShape shape = {DType::kBF16, 128, group * 2, 2};
    const int32_t tokens_per_tile = kVarlenTileRows / group;
    std::vector<int32_t> cu_seqlens = {0}, lens;
    for (int s = 0; s < 50; ++s) {
      const auto rows = static_cast<int32_t>(random() % 5 == 0 ? 0 : random() % 400);
      cu_seqlens.push_back(cu_seqlens.back() + rows);
      lens.push_back(rows + static_cast<int32_t>(rows > 0 ? random() % 1000 : 0));
    }
    const int32_t num_tiles = VarlenTiles(shape, cu_seqlens.back(), 50);
    std::vector<int32_t> ints(VarlenPlanInts(num_tiles + 2), -7);
    const int32_t num_used =
        PlanVarlen(shape, cu_seqlens.data(), lens.data(), 50, num_tiles + 2, ints.data());
    const auto* tiles = reinterpret_cast<const VarlenTile*>(ints.data());
    ASSERT_LE(num_used, num_tiles);
    std::vector<int> covered(static_cast<size_t>(cu_seqlens.back()));
    int32_t last_keys = INT32_MAX;
    for (int32_t i = 0; i < num_used; ++i) {
      const int32_t s = tiles[i].seq;
      const int32_t rows = cu_seqlens[s + 1] - cu_seqlens[s];
      const int32_t end = std::min(tiles[i].first_token + tokens_per_tile, rows);
      for (int32_t t = tiles[i].first_token; t < end; ++t) ++covered[cu_seqlens[s] + t];
      EXPECT_EQ(tiles[i].num_tokens, rows);
      EXPECT_EQ(tiles[i].context_len, lens[s]);
      EXPECT_EQ(tiles[i].first_row, cu_seqlens[s]);
      EXPECT_EQ(tiles[i].num_keys, lens[s] - rows + end);
      EXPECT_LE(tiles[i].num_keys, last_keys);
      last_keys = tiles[i].num_keys;
    }
    EXPECT_EQ(covered, std::vector<int>(covered.size(), 1)) << "group " << group;
    for (int32_t i = num_used; i < num_tiles + 2; ++i) EXPECT_EQ(tiles[i].seq, -1);
  }
}

}  // namespace
}  // namespace mili::kernels::cuda

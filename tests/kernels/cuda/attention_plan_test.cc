// The plans of attention are made on the host: these tests need no GPU.
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/attention/paged_attention.h"
#include "kernels/cuda/attention/plan.h"

namespace mili::kernels::cuda {
namespace {

struct DecodePlan {
  DecodePlan(const std::vector<int32_t>& lens, int32_t num_kv_heads, int32_t num_ctas,
             int32_t num_warps = 4)
      : ints(DecodePlanInts(num_ctas), -1) {
    PlanDecode(lens.data(), static_cast<int32_t>(lens.size()), num_kv_heads, {num_ctas, num_warps},
               ints.data());
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
    const int32_t num_warps = round % 2 == 0 ? 4 : 8;
    const DecodePlan plan(lens, kHeads, num_ctas, num_warps);
    int32_t c = 0, used = 0, flat = 0;
    for (int32_t s = 0; s < static_cast<int32_t>(lens.size()); ++s) {
      for (int32_t h = 0; h < kHeads; ++h) {
        for (int32_t b = 0; b * DecodeBlock(num_warps) < lens[s]; ++b, ++flat, ++used) {
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
    const int32_t even = (flat + num_ctas - 1) / num_ctas;
    for (int32_t i = 0; i < num_ctas; ++i) {
      const int32_t size = plan.shares()[i].num_blocks;
      if (i >= plan.header().num_active) {
        ASSERT_EQ(size, 0);
      } else {
        ASSERT_GE(size, flat / plan.header().num_active);
        ASSERT_LE(size, std::max(even + even / kWholeShareSlack, kMaxWholeBlocks));
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

TEST(DecodePlanTest, CutsEqualLengthsWhereTheyEndIfThatMakesSharesHardlyLonger) {
  for (const int32_t len : {257, 320, 321, 384}) {
    const DecodePlan plan(std::vector<int32_t>(256, len), 8, 264);
    ASSERT_EQ(plan.header().num_active, 256) << len;
    for (int32_t c = 0; c < 256; ++c) ASSERT_EQ(plan.shares()[c].block, 0) << len;
  }
  // Of 50 sequences shares of two whole heads would be a third longer.
  EXPECT_EQ(DecodePlan(std::vector<int32_t>(50, 640), 8, 264).header().num_active, 250);
  std::vector<int32_t> unlike(256, 320);
  unlike[0] = 257 - 64;
  EXPECT_EQ(DecodePlan(unlike, 8, 264).header().num_active, 263);
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

TEST(DecodeGridTest, GivesFewSequencesAndHeadsCtasOfManyWarps) {
  const DecodeGrid few = DecodeGridOf(4, 8, DecodeCtas(132));
  EXPECT_EQ(few.num_ctas, 132);
  EXPECT_EQ(few.num_warps, kManyDecodeWarps);
  const DecodeGrid many = DecodeGridOf(5, 8, DecodeCtas(132));
  EXPECT_EQ(many.num_ctas, DecodeCtas(132));
  EXPECT_EQ(many.num_warps, kDecodeWarps);
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
    const VarlenPlanUse use =
        PlanVarlen(shape, cu_seqlens.data(), lens.data(), 50, num_tiles + 2, ints.data());
    const int32_t num_used = use.num_tiles;
    EXPECT_FALSE(use.has_parts);
    const auto* tiles = reinterpret_cast<const VarlenTile*>(ints.data());
    ASSERT_LE(num_used, num_tiles);
    std::vector<int> covered(static_cast<size_t>(cu_seqlens.back()));
    int32_t last_keys = INT32_MAX;
    for (int32_t i = 0; i < num_used; ++i) {
      const int32_t s = tiles[i].seq;
      const int32_t first_token = tiles[i].first_row - cu_seqlens[s];
      for (int32_t t = 0; t < tiles[i].num_tokens; ++t) ++covered[tiles[i].first_row + t];
      EXPECT_LE(tiles[i].num_tokens, tokens_per_tile);
      EXPECT_EQ(tiles[i].first_position, lens[s] - (cu_seqlens[s + 1] - tiles[i].first_row));
      EXPECT_EQ(first_token % tokens_per_tile, 0);
      EXPECT_EQ(tiles[i].first_key, 0);
      EXPECT_EQ(tiles[i].end_key, tiles[i].first_position + tiles[i].num_tokens);
      EXPECT_EQ(tiles[i].num_gathered, 0);
      EXPECT_LE(tiles[i].end_key, last_keys);
      last_keys = tiles[i].end_key;
    }
    EXPECT_EQ(covered, std::vector<int>(covered.size(), 1)) << "group " << group;
    for (int32_t i = num_used; i < num_tiles + 2; ++i) EXPECT_EQ(tiles[i].seq, -1);
  }
}

struct VarlenPlan {
  VarlenPlan(const AttentionShape& shape, const std::vector<int32_t>& rows,
             const std::vector<int32_t>& lens, int32_t num_sms) {
    for (const int32_t n : rows) cu_seqlens.push_back(cu_seqlens.back() + n);
    const auto num_seqs = static_cast<int32_t>(rows.size());
    const int32_t num_tiles = VarlenTiles(shape, cu_seqlens.back(), num_seqs, num_sms);
    ints.assign(VarlenPlanInts(num_tiles), -7);
    use = PlanVarlen(shape, cu_seqlens.data(), lens.data(), num_seqs, num_tiles, ints.data(),
                     num_sms);
  }
  const VarlenTile& tile(int32_t i) const {
    return reinterpret_cast<const VarlenTile*>(ints.data())[i];
  }
  std::vector<int32_t> cu_seqlens = {0};
  std::vector<int32_t> ints;
  VarlenPlanUse use;
};

TEST(VarlenPlanTest, CutsKeysIntoPartsThatTheLastOfThemGathers) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const AttentionShape shape = {DType::kBF16, 128, 32, 8};
    std::vector<int32_t> rows, lens;
    for (uint32_t s = 0; s < 1 + random() % 12; ++s) {
      rows.push_back(static_cast<int32_t>(1 + random() % 100));
      lens.push_back(rows.back() + static_cast<int32_t>(random() % 20000));
    }
    const VarlenPlan plan(shape, rows, lens, 132);
    const int32_t max_slots = 132 / shape.num_kv_heads;
    std::vector<int> writers(static_cast<size_t>(max_slots));
    for (int32_t i = 0; i < plan.use.num_tiles; ++i) {
      const VarlenTile& tile = plan.tile(i);
      ASSERT_EQ(tile.first_key % kVarlenKeyBlock, 0);
      ASSERT_LT(tile.first_key, tile.end_key);
      if (tile.num_gathered < 0) {
        ASSERT_LT(tile.slot, max_slots);
        ++writers[static_cast<size_t>(tile.slot)];
        continue;
      }
      ASSERT_EQ(tile.end_key, tile.first_position + tile.num_tokens);
      int32_t end = 0;  // the parts ahead of it in the plan cover its keys up to here
      int32_t num_parts = 0;
      for (int32_t j = 0; j < i; ++j) {
        const VarlenTile& part = plan.tile(j);
        if (part.first_row != tile.first_row) continue;
        ASSERT_EQ(part.num_gathered, -1);
        ASSERT_EQ(part.slot, tile.slot + num_parts++);
        ASSERT_EQ(part.first_key, end);
        end = part.end_key;
      }
      ASSERT_EQ(tile.first_key, end);
      ASSERT_EQ(tile.num_gathered, num_parts);
    }
    for (const int count : writers) ASSERT_LE(count, 1);
  }
}

TEST(VarlenPlanTest, FillsTheGpuWithAShortChunkBehindALongContext) {
  // 64 tokens are two tiles of 32 tokens; 65 blocks of keys are cut by 8 for 16 heads and tiles.
  const VarlenPlan plan({DType::kBF16, 128, 32, 8}, {64}, {8192 + 64}, 132);
  EXPECT_EQ(plan.use.num_tiles, 16);
  EXPECT_TRUE(plan.use.has_parts);
  for (int32_t i = 0; i < plan.use.num_tiles; ++i) {
    EXPECT_LE(plan.tile(i).end_key - plan.tile(i).first_key, 9 * kVarlenKeyBlock);
  }
}

TEST(VarlenPlanTest, LeavesPromptsThatFillTheGpuInOnePiece) {
  const VarlenPlan plan({DType::kBF16, 128, 32, 8}, {8192}, {8192}, 132);
  EXPECT_EQ(plan.use.num_tiles, 8192 / 32);
  EXPECT_FALSE(plan.use.has_parts);
}

int32_t SmsBeside(const std::vector<int32_t>& decode_lens, int32_t num_rows, int32_t prompt_len) {
  std::vector<int32_t> cu_seqlens = {0};
  std::vector<int32_t> lens = decode_lens;
  for (size_t i = 0; i < decode_lens.size(); ++i) cu_seqlens.push_back(cu_seqlens.back() + 1);
  cu_seqlens.push_back(cu_seqlens.back() + num_rows);
  lens.push_back(prompt_len);
  return SmsOfPrompts({DType::kBF16, 128, 32, 8}, cu_seqlens.data(), lens.data(),
                      static_cast<int32_t>(decode_lens.size()), 1, 132);
}

TEST(SideBySideTest, GivesEitherKindTheSmsThatItsWorkTakes) {
  const int32_t len = 500 - kDecodeTokensASequence;
  // Four tiles with a block each, or with nine.
  EXPECT_EQ(SmsBeside({len}, 128, 128), 132 - 132 * 500 / (4 * kDecodeTokensABlock + 500));
  EXPECT_EQ(SmsBeside({len}, 128, 128 + 1024),
            132 - (132 * 500 / (36 * kDecodeTokensABlock + 500) + 1));
}

TEST(SideBySideTest, GivesDecodesAnSmAndHalfOfThemAtMost) {
  EXPECT_EQ(SmsBeside({1}, 2048, 2048), 131);
  EXPECT_EQ(SmsBeside(std::vector<int32_t>(256, 8000), 2, 2), 66);
}

}  // namespace
}  // namespace mili::kernels::cuda

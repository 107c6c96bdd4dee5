// What a packed step becomes on the device, laid out here as the kernel does it: no GPU needed.
#include "worker/engine/cuda/step_packer.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/attention/plan.h"

namespace mili::worker {
namespace {

using ::testing::ElementsAre;

// A workspace in the host's memory, full of 77 to show what is not written.
class StepPackerTest : public ::testing::Test {
 protected:
  StepPackerTest() {
    config_.num_layers = 1;
    config_.num_heads = 4;
    config_.num_kv_heads = 2;
    config_.head_dim = 64;
    plan_.kv = {1, 2, 64, kGpuPageSizeTokens, DType::kBF16};
    plan_.max_num_seqs = 60;
    plan_.max_num_batched_tokens = 200;
    plan_.max_model_len = 128;
    ws_.page_table_stride = 8;
    ws_.num_decode_ctas = 4;
    ws_.max_varlen_tiles = gpu::k::VarlenTiles(AttentionShapeOf(config_, DType::kBF16), 200, 60);
    for (int32_t** array :
         {&ws_.token_ids, &ws_.positions, &ws_.slot_map, &ws_.feed_slots, &ws_.cu_seqlens,
          &ws_.context_lens, &ws_.page_table, &ws_.head_rows, &ws_.head_slots, &ws_.head_positions,
          &ws_.decode_plan, &ws_.varlen_plan}) {
      arrays_.push_back(std::vector<int32_t>(4096, 77));
      *array = arrays_.back().data();
    }
    ws_.sampled_at = &sampled_at_;
    ws_.staging_bytes = 4 * StagingWords(plan_, ws_);
    staging_.resize(ws_.staging_bytes);
  }

  // Appends a sequence whose last `num_new` tokens of `context` are computed; it samples.
  static void Add(StepBatch* batch, uint32_t slot, uint32_t num_new, uint32_t context) {
    const uint32_t row = batch->num_rows();
    batch->page_table_stride = 8;
    batch->slots.push_back(SlotId(slot));
    batch->context_lens.push_back(context);
    for (uint32_t i = 0; i < 8; ++i) batch->page_table.push_back(100 * row + i);
    for (uint32_t t = context - num_new; t < context; ++t) {
      batch->token_ids.push_back(1000 * row + t);
      batch->positions.push_back(t);
      batch->slot_map.push_back((100 * row + t / 16) * 16 + t % 16);
    }
    batch->cu_seqlens.push_back(batch->num_tokens());
    batch->samples.push_back({row, batch->num_tokens() - 1, context});
  }

  PackedStep Pack(const StepBatch& batch) {
    StepPacker packer(config_, plan_, ws_);
    const PackedStep packed =
        packer.Pack(batch, {}, PaddingOf(batch, plan_), staging_.data(), staging_.data(), &result_);
    for (int32_t s = 0; s < packed.layout.num_segments; ++s) {
      const auto& segment = packed.layout.segments[s];
      for (int32_t i = 0; i < segment.padded_count; ++i) {
        segment.to[i] = i < segment.count ? segment.from[i] : segment.pad;
      }
    }
    for (int32_t s = 0; s < packed.layout.num_seqs; ++s) {
      const int32_t begin = packed.layout.page_offsets[s];
      std::copy(packed.layout.pages + begin,
                packed.layout.pages + packed.layout.page_offsets[s + 1],
                ws_.page_table + s * ws_.page_table_stride);
    }
    EXPECT_EQ(sampled_at_, &result_);
    return packed;
  }

  static std::vector<int32_t> First(const int32_t* array, size_t count) {
    return {array, array + count};
  }

  ModelConfig config_;
  MemoryPlan plan_;
  CudaWorkspace ws_;
  gpu::k::SampledRow result_;
  gpu::k::SampledRow* sampled_at_ = nullptr;
  std::vector<std::vector<int32_t>> arrays_;
  std::vector<std::byte> staging_;
};

TEST_F(StepPackerTest, PromptsKeepTheirPlacesBeforeThePadding) {
  StepBatch batch;
  batch.Clear();
  Add(&batch, 7, 3, 3);
  Add(&batch, 2, 5, 20);
  Add(&batch, 4, 2, 2);
  const PackedStep packed = Pack(batch);
  EXPECT_TRUE(packed.is_padded);
  EXPECT_EQ(packed.num_samples, 3);
  EXPECT_EQ(packed.shape.num_tokens, 16);
  EXPECT_EQ(packed.shape.num_decode, 0);
  EXPECT_EQ(packed.shape.num_varlen, 8);
  EXPECT_EQ(packed.shape.num_head_rows, 8);
  EXPECT_THAT(First(ws_.token_ids, 17),
              ElementsAre(0, 1, 2, 1015, 1016, 1017, 1018, 1019, 2000, 2001, 0, 0, 0, 0, 0, 0, 77));
  EXPECT_THAT(First(ws_.positions, 11), ElementsAre(0, 1, 2, 15, 16, 17, 18, 19, 0, 1, 0));
  EXPECT_THAT(First(ws_.slot_map, 12),
              ElementsAre(0, 1, 2, 1615, 1616, 1617, 1618, 1619, 3200, 3201, -1, -1));
  EXPECT_THAT(First(ws_.feed_slots, 4), ElementsAre(-1, -1, -1, -1));
  EXPECT_THAT(First(ws_.cu_seqlens, 4), ElementsAre(0, 3, 8, 10));
  EXPECT_THAT(First(ws_.context_lens, 9), ElementsAre(3, 20, 2, 0, 0, 0, 0, 0, 77));
  EXPECT_THAT(First(ws_.head_rows, 4), ElementsAre(2, 7, 9, -1));
  EXPECT_THAT(First(ws_.head_slots, 4), ElementsAre(7, 2, 4, -1));
  EXPECT_THAT(First(ws_.head_positions, 3), ElementsAre(3, 20, 2));
  EXPECT_THAT(First(ws_.page_table + 8, 3), ElementsAre(100, 101, 77));
}

TEST_F(StepPackerTest, EveryPromptHasItsTilesAndTheRestIsEmpty) {
  StepBatch batch;
  batch.Clear();
  Add(&batch, 0, 70, 70);  // 64 tokens fit in a tile of two heads each
  Add(&batch, 1, 9, 9);
  const PackedStep packed = Pack(batch);
  EXPECT_EQ(packed.shape.num_tokens, 128);
  ASSERT_EQ(packed.shape.num_varlen_tiles, 128 / 64 + 8);
  const auto* tiles = reinterpret_cast<const gpu::k::VarlenTile*>(ws_.varlen_plan);
  std::vector<std::pair<int32_t, int32_t>> used;
  for (int32_t i = 0; i < packed.shape.num_varlen_tiles; ++i) {
    if (tiles[i].seq >= 0) used.push_back({tiles[i].seq, tiles[i].first_row});
  }
  EXPECT_THAT(used,
              ::testing::UnorderedElementsAre(std::pair(0, 0), std::pair(0, 64), std::pair(1, 70)));
  EXPECT_TRUE(packed.shape.has_varlen_parts);  // of another step that takes the same shape
}

TEST_F(StepPackerTest, PromptsWithoutASampleHaveNoHead) {
  StepBatch batch;
  batch.Clear();
  Add(&batch, 7, 3, 3);
  batch.samples.clear();
  const PackedStep packed = Pack(batch);
  EXPECT_TRUE(packed.is_padded);
  EXPECT_EQ(packed.shape.num_head_rows, 0);
}

TEST_F(StepPackerTest, DecodesComeFirstAndAreFedFromTheirSlots) {
  StepBatch batch;
  batch.Clear();
  Add(&batch, 7, 4, 4);
  Add(&batch, 2, 1, 20);
  batch.fed_rows = {1};
  batch.scores.push_back({.row_idx = 0, .token_idx = 0});  // so that nothing is padded
  for (int32_t** array : {&ws_.score_rows, &ws_.score_targets, &ws_.score_num_top}) {
    *array = ws_.page_table + 1000;
  }
  const PackedStep packed = Pack(batch);
  EXPECT_FALSE(packed.is_padded);
  EXPECT_EQ(packed.shape.num_decode, 1);
  EXPECT_EQ(packed.shape.num_varlen, 1);
  EXPECT_THAT(First(ws_.positions, 6), ElementsAre(19, 0, 1, 2, 3, 77));
  EXPECT_THAT(First(ws_.feed_slots, 3), ElementsAre(2, -1, -1));
  EXPECT_THAT(First(ws_.cu_seqlens, 3), ElementsAre(0, 1, 5));
  EXPECT_THAT(First(ws_.context_lens, 2), ElementsAre(20, 4));
  EXPECT_THAT(First(ws_.head_rows, 2), ElementsAre(4, 0));
  EXPECT_THAT(First(ws_.head_slots, 2), ElementsAre(7, 2));
}

TEST_F(StepPackerTest, BesidePromptsThePaddingOfDecodesLiesBetween) {
  StepBatch batch;
  batch.Clear();
  Add(&batch, 7, 4, 36);
  Add(&batch, 2, 1, 20);
  Add(&batch, 5, 1, 3);
  batch.fed_rows = {1, 2};
  const PackedStep packed = Pack(batch);
  EXPECT_TRUE(packed.is_padded);
  EXPECT_EQ(packed.shape.num_decode, 8);
  EXPECT_EQ(packed.shape.num_varlen, 8);
  EXPECT_EQ(packed.shape.num_tokens, 8 + 16);
  EXPECT_EQ(packed.shape.num_head_rows, 16);
  EXPECT_THAT(First(ws_.positions, 13), ElementsAre(19, 2, 0, 0, 0, 0, 0, 0, 32, 33, 34, 35, 0));
  EXPECT_THAT(First(ws_.slot_map, 13),
              ElementsAre(1619, 3202, -1, -1, -1, -1, -1, -1, 32, 33, 34, 35, -1));
  EXPECT_THAT(First(ws_.feed_slots, 9), ElementsAre(2, 5, -1, -1, -1, -1, -1, -1, -1));
  EXPECT_THAT(First(ws_.context_lens, 17),
              ElementsAre(20, 3, 0, 0, 0, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 77));
  EXPECT_THAT(First(ws_.page_table + 8 * 8, 4), ElementsAre(0, 1, 2, 77));
  EXPECT_THAT(First(ws_.page_table, 3), ElementsAre(100, 101, 77));
  EXPECT_THAT(First(ws_.page_table + 2 * 8, 1), ElementsAre(77));
  EXPECT_THAT(First(ws_.head_rows, 4), ElementsAre(11, 0, 1, -1));
  const auto& tile = reinterpret_cast<const gpu::k::VarlenTile*>(ws_.varlen_plan)[0];
  EXPECT_EQ(tile.seq, 0);
  EXPECT_EQ(tile.first_row, 8);
  EXPECT_EQ(tile.num_tokens, 4);
  const auto& decode = *reinterpret_cast<const gpu::k::DecodePlanHeader*>(ws_.decode_plan);
  EXPECT_EQ(decode.total_blocks, 2 * 2);  // two sequences, two KV heads, a block each
}

TEST_F(StepPackerTest, PaddedDecodesWriteNothing) {
  StepBatch batch;
  batch.Clear();
  for (uint32_t slot = 0; slot < 3; ++slot) Add(&batch, slot, 1, 5 + slot);
  const PackedStep packed = Pack(batch);
  EXPECT_TRUE(packed.is_padded);
  EXPECT_EQ(packed.shape.num_tokens, 4);
  EXPECT_EQ(packed.shape.num_head_rows, 4);
  EXPECT_THAT(First(ws_.slot_map, 4), ElementsAre(4, 1605, 3206, -1));
  EXPECT_THAT(First(ws_.context_lens, 4), ElementsAre(5, 6, 7, 0));
  EXPECT_THAT(First(ws_.head_slots, 4), ElementsAre(0, 1, 2, -1));
}

TEST_F(StepPackerTest, ARowThatSamplesTwiceIsNotPadded) {
  StepBatch batch;
  batch.Clear();
  Add(&batch, 7, 3, 3);
  batch.samples.push_back({0, 1, 2});
  const PackedStep packed = Pack(batch);
  EXPECT_FALSE(packed.is_padded);
  EXPECT_EQ(packed.shape.num_head_rows, 2);
}

TEST_F(StepPackerTest, PromptsAndDecodesOfAStepThatIsNotPaddedShareTheSms) {
  ws_.num_sms = 4;
  ws_.num_decode_ctas = gpu::k::DecodeCtas(4);
  StepBatch batch;
  batch.Clear();
  Add(&batch, 0, 1, 100);
  Add(&batch, 1, 100, 100);
  const auto sms_of = [&] { return Pack(batch).shape.num_varlen_sms; };
  EXPECT_EQ(sms_of(), 0);  // not on this GPU
  ws_.has_side_by_side = true;
  EXPECT_EQ(sms_of(), 0);  // captured
  batch.samples.push_back(batch.samples.back());
  EXPECT_EQ(sms_of(), 2);
  // Plans are for as many SMs.
  const auto* shares = reinterpret_cast<const gpu::k::DecodePlanHeader*>(ws_.decode_plan);
  EXPECT_LE(shares->num_active, gpu::k::DecodeCtas(2));
  batch.Clear();
  Add(&batch, 1, 100, 100);
  batch.samples.push_back(batch.samples.back());
  EXPECT_EQ(sms_of(), 0);  // prompts alone
}

}  // namespace
}  // namespace mili::worker

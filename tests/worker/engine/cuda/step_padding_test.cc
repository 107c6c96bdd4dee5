// To what steps are padded is decided on the host: these tests need no GPU.
#include <gtest/gtest.h>

#include "worker/engine/cuda/step_packer.h"

namespace mili::worker {
namespace {

MemoryPlan Plan() {
  MemoryPlan plan;
  plan.max_num_seqs = 60;
  plan.max_num_batched_tokens = 200;
  return plan;
}

StepBatch BatchOf(const std::vector<uint32_t>& row_tokens) {
  StepBatch batch;
  batch.Clear();
  for (const uint32_t count : row_tokens) {
    batch.slots.push_back(SlotId(batch.num_rows()));
    batch.token_ids.resize(batch.num_tokens() + count);
    batch.cu_seqlens.push_back(batch.num_tokens());
  }
  return batch;
}

TEST(StepPaddingTest, DecodesComeInFewSizes) {
  const auto padded = [](uint32_t num_rows) {
    return PaddingOf(BatchOf(std::vector<uint32_t>(num_rows, 1)), Plan()).num_decode;
  };
  EXPECT_EQ(padded(1), 1u);
  EXPECT_EQ(padded(2), 2u);
  EXPECT_EQ(padded(3), 4u);
  EXPECT_EQ(padded(5), 8u);
  EXPECT_EQ(padded(9), 16u);
  EXPECT_EQ(padded(56), 56u);
  EXPECT_EQ(padded(57), 60u);  // the plan has no more
}

TEST(StepPaddingTest, ShortPromptsComeInFewSizes) {
  const StepPadding one = PaddingOf(BatchOf({5}), Plan());
  EXPECT_EQ(one.num_prompts, 1u);
  EXPECT_EQ(one.num_prompt_tokens, 16u);
  const StepPadding three = PaddingOf(BatchOf({40, 2, 30}), Plan());
  EXPECT_EQ(three.num_prompts, 4u);
  EXPECT_EQ(three.num_prompt_tokens, 128u);
  EXPECT_EQ(PaddingOf(BatchOf({195}), Plan()).num_prompt_tokens, 200u);
}

TEST(StepPaddingTest, OtherStepsStayAsTheyAre) {
  EXPECT_FALSE(PaddingOf(BatchOf({1, 5}), Plan()).is_any());
  EXPECT_FALSE(PaddingOf(BatchOf({300}), Plan()).is_any());
  EXPECT_FALSE(PaddingOf(BatchOf(std::vector<uint32_t>(9, 2)), Plan()).is_any());
  StepBatch scored = BatchOf({5});
  scored.scores.push_back({});
  EXPECT_FALSE(PaddingOf(scored, Plan()).is_any());
}

}  // namespace
}  // namespace mili::worker

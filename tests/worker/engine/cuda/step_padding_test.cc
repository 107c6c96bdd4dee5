// To what steps are padded is decided on the host: these tests need no GPU.
#include "worker/engine/cuda/step_padding.h"

#include <algorithm>

#include <gtest/gtest.h>

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
  EXPECT_EQ(three.num_prompts, 8u);
  EXPECT_EQ(three.num_prompt_tokens, 128u);
  EXPECT_EQ(PaddingOf(BatchOf({195}), Plan()).num_prompt_tokens, 200u);
}

TEST(StepPaddingTest, DecodesBesidePromptsComeInFewSizes) {
  const auto padded = [](uint32_t num_decode, uint32_t num_tokens) {
    std::vector<uint32_t> rows(num_decode, 1);
    rows.push_back(num_tokens);
    return PaddingOf(BatchOf(rows), Plan());
  };
  EXPECT_EQ(padded(1, 5), (StepPadding{8, 8, 16, 16}));
  EXPECT_EQ(padded(17, 40), (StepPadding{32, 8, 64, 40}));
  // The plan has no more sequences to decode or to sample.
  EXPECT_EQ(padded(59, 40), (StepPadding{60, 8, 64, 60}));
  EXPECT_EQ(padded(40, 140), (StepPadding{60, 8, 140, 60}));  // nor tokens
  EXPECT_FALSE(padded(40, 141).is_any());
}

TEST(StepPaddingTest, OtherStepsStayAsTheyAre) {
  EXPECT_FALSE(PaddingOf(BatchOf({300}), Plan()).is_any());
  EXPECT_FALSE(PaddingOf(BatchOf({1, 300}), Plan()).is_any());
  EXPECT_FALSE(PaddingOf(BatchOf(std::vector<uint32_t>(9, 2)), Plan()).is_any());
  StepBatch scored = BatchOf({5});
  scored.scores.push_back({});
  EXPECT_FALSE(PaddingOf(scored, Plan()).is_any());
}

TEST(StepPaddingTest, EveryPaddingIsAmongAll) {
  const MemoryPlan plan = Plan();
  const std::vector<StepPadding> all = AllPaddings(plan);
  for (uint32_t num_decode = 0; num_decode <= plan.max_num_seqs; ++num_decode) {
    for (uint32_t num_prompts = 0; num_decode + num_prompts <= plan.max_num_seqs; ++num_prompts) {
      if (num_prompts > 9) break;
      for (const uint32_t tokens : {2u, 16u, 17u, 64u, 65u, 128u, 129u, 190u}) {
        std::vector<uint32_t> rows(num_decode, 1);
        rows.resize(num_decode + num_prompts, tokens);
        StepBatch batch = BatchOf(rows);
        if (rows.empty() || batch.num_tokens() > plan.max_num_batched_tokens) continue;
        for (const bool samples : {false, true}) {
          if (samples) batch.samples.push_back({});
          const StepPadding padding = PaddingOf(batch, plan);
          if (!padding.is_any()) continue;
          EXPECT_EQ(std::count(all.begin(), all.end(), padding), 1)
              << num_decode << " decodes, " << num_prompts << " prompts of " << tokens;
        }
      }
    }
  }
  EXPECT_EQ(all.front(), (StepPadding{1, 0, 0, 1}));
}

TEST(StepPaddingTest, ThereAreNoMoreThanThePlanSetsMemoryAsideFor) {
  for (const uint32_t max_num_seqs : {1u, 3u, 8u, 60u, 256u, 1000u}) {
    MemoryPlan plan;
    plan.max_num_seqs = max_num_seqs;
    plan.max_num_batched_tokens = 8192;
    EXPECT_LE(AllPaddings(plan).size(), MaxGpuGraphs(max_num_seqs)) << max_num_seqs;
    if (max_num_seqs < 256) continue;
    EXPECT_GE(AllPaddings(plan).size() + 10, MaxGpuGraphs(max_num_seqs)) << max_num_seqs;
  }
}

}  // namespace
}  // namespace mili::worker

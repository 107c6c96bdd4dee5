// Every rule that a plan can break, one test each; none may crash or be let through.
#include "worker/engine/slot_table.h"

#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr SlotTable::Limits kLimits = {.num_slots = 4,
                                       .num_pages = 20,
                                       .page_size_tokens = 4,
                                       .max_num_batched_tokens = 16,
                                       .max_model_len = 18,
                                       .vocab_size = 100};

class SlotTableTest : public ::testing::Test {
 protected:
  SlotTableTest() { batch_.Reserve(4, 16, kLimits.max_pages_per_seq()); }

  static SeqStart Start(uint32_t slot, uint32_t num_tokens, std::vector<PageId> pages) {
    SeqStart start;
    start.slot = SlotId(slot);
    for (uint32_t i = 0; i < num_tokens; ++i) start.token_ids.push_back(10 + i);
    start.num_prompt_tokens = num_tokens;
    start.pages = std::move(pages);
    return start;
  }
  static SeqStep Known(uint32_t slot, uint32_t num_tokens, bool sample) {
    return {SlotId(slot), num_tokens, {}, TokenSource::kKnown, sample};
  }
  static SeqStep Last(uint32_t slot) {
    return {SlotId(slot), 1, {}, TokenSource::kLastSampled, true};
  }
  absl::Status Apply(StepPlan plan) {
    plan.step_id = StepId(++step_id_);
    return table_.Apply(std::move(plan), &batch_);
  }
  absl::Status ApplyStart(SeqStart start) {
    StepPlan plan;
    plan.start.push_back(std::move(start));
    return Apply(std::move(plan));
  }
  absl::Status ApplySteps(std::vector<SeqStep> steps) {
    StepPlan plan;
    plan.step = std::move(steps);
    return Apply(std::move(plan));
  }
  // A sequence of six tokens in slot 1 with pages 3 and 7.
  void Occupy() { ASSERT_TRUE(ApplyStart(Start(1, 6, {PageId(3), PageId(7)})).ok()); }
  static void ExpectBroken(const absl::Status& status, const std::string& what) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  }

  SlotTable table_{kLimits};
  StepBatch batch_;
  uint64_t step_id_ = 0;
};

TEST_F(SlotTableTest, LaysOutAMixedStep) {
  Occupy();
  ASSERT_TRUE(ApplySteps({Known(1, 6, true)}).ok());
  StepPlan plan;
  plan.start = {Start(0, 5, {PageId(9)})};
  plan.step = {Known(0, 3, false), Last(1)};
  ASSERT_TRUE(Apply(plan).ok());
  EXPECT_THAT(batch_.slots, ElementsAre(SlotId(0), SlotId(1)));
  EXPECT_THAT(batch_.cu_seqlens, ElementsAre(0, 3, 4));
  EXPECT_THAT(batch_.context_lens, ElementsAre(3, 7));
  EXPECT_THAT(batch_.token_ids, ElementsAre(10, 11, 12, 0));
  EXPECT_THAT(batch_.positions, ElementsAre(0, 1, 2, 6));
  EXPECT_THAT(batch_.slot_map, ElementsAre(36, 37, 38, 7 * 4 + 2));
  EXPECT_THAT(batch_.page_table, ElementsAre(9, 0, 0, 0, 0, 3, 7, 0, 0, 0));
  EXPECT_THAT(batch_.fed_rows, ElementsAre(1));
  ASSERT_EQ(batch_.samples.size(), 1u);
  EXPECT_EQ(batch_.samples[0].row_idx, 1u);
  EXPECT_EQ(batch_.samples[0].token_idx, 3u);
  EXPECT_EQ(batch_.samples[0].position, 7u);
  ASSERT_EQ(batch_.resets.size(), 1u);
  EXPECT_EQ(batch_.resets[0].slot, SlotId(0));
}

TEST_F(SlotTableTest, CachedTokensAreNotComputedAgain) {
  SeqStart start = Start(2, 6, {PageId(0), PageId(1)});
  start.num_cached_tokens = 4;
  StepPlan plan;
  plan.start = {start};
  plan.step = {Known(2, 2, true)};
  ASSERT_TRUE(Apply(plan).ok());
  EXPECT_THAT(batch_.positions, ElementsAre(4, 5));
  EXPECT_THAT(batch_.context_lens, ElementsAre(6));
}

TEST_F(SlotTableTest, CountsTokensForPenaltiesOnly) {
  SeqStart start = Start(2, 0, {PageId(0), PageId(1)});
  start.token_ids = {5, 7, 5, 9, 7, 7};
  start.num_prompt_tokens = 3;
  start.sampling.presence_penalty = 0.5f;
  ASSERT_TRUE(ApplyStart(start).ok());
  ASSERT_EQ(batch_.resets[0].counts.size(), 3u);
  EXPECT_EQ(batch_.resets[0].counts[0].token_id, 5u);
  EXPECT_EQ(batch_.resets[0].counts[0].num_in_output, 0u);
  EXPECT_EQ(batch_.resets[0].counts[1].token_id, 7u);
  EXPECT_EQ(batch_.resets[0].counts[1].num_in_output, 2u);
  EXPECT_EQ(batch_.resets[0].counts[2].num_in_output, 1u);
  EXPECT_EQ(batch_.resets[0].num_output_tokens, 3u);
  start.slot = SlotId(3);
  start.sampling.presence_penalty = 0;
  ASSERT_TRUE(ApplyStart(start).ok());
  EXPECT_TRUE(batch_.resets[0].counts.empty());
}

TEST_F(SlotTableTest, AContextMayFillToTheLastToken) {
  SeqStart start = Start(0, 18, {});
  for (uint32_t i = 0; i < 5; ++i) start.pages.push_back(PageId(i));
  ASSERT_TRUE(ApplyStart(start).ok());
  ASSERT_TRUE(ApplySteps({Known(0, 16, false)}).ok());
  ASSERT_TRUE(ApplySteps({Known(0, 2, true)}).ok());
  ExpectBroken(ApplySteps({Last(0)}), "slot 0: 19 tokens exceed the context of 18");
}

TEST_F(SlotTableTest, ClearEmptiesEverySlotAndStartsOver) {
  Occupy();
  table_.Clear();
  step_id_ = 0;
  Occupy();
}

TEST_F(SlotTableTest, RefusesAStepOutOfOrder) {
  StepPlan plan;
  plan.step_id = StepId(2);
  ExpectBroken(table_.Apply(plan, &batch_), "step_id is 2; expected 1");
}
TEST_F(SlotTableTest, RefusesReleaseOfNoSlot) {
  StepPlan plan;
  plan.release = {SlotId(4)};
  ExpectBroken(Apply(plan), "slot 4: released, but slots are 0 to 3");
}
TEST_F(SlotTableTest, RefusesReleaseOfAnEmptySlot) {
  StepPlan plan;
  plan.release = {SlotId(2)};
  ExpectBroken(Apply(plan), "slot 2: released, but it is empty");
}
TEST_F(SlotTableTest, RefusesStartInNoSlot) {
  ExpectBroken(ApplyStart(Start(4, 1, {})), "slot 4: started, but slots are 0 to 3");
}
TEST_F(SlotTableTest, RefusesStartInAnOccupiedSlot) {
  Occupy();
  ExpectBroken(ApplyStart(Start(1, 1, {})), "slot 1: started, but it holds a sequence");
}
TEST_F(SlotTableTest, RefusesStartWithoutTokens) {
  ExpectBroken(ApplyStart(Start(0, 0, {})), "without tokens");
}
TEST_F(SlotTableTest, RefusesStartBeyondTheContext) {
  ExpectBroken(ApplyStart(Start(0, 19, {})), "19 tokens exceed the context of 18");
}
TEST_F(SlotTableTest, RefusesStartWithAWrongPromptLength) {
  for (const uint32_t length : {0u, 4u}) {
    SeqStart start = Start(0, 3, {PageId(0)});
    start.num_prompt_tokens = length;
    ExpectBroken(ApplyStart(start), "num_prompt_tokens");
  }
}
TEST_F(SlotTableTest, RefusesStartWithEverythingCached) {
  SeqStart start = Start(0, 3, {PageId(0)});
  start.num_cached_tokens = 3;
  ExpectBroken(ApplyStart(start), "num_cached_tokens is 3");
}
TEST_F(SlotTableTest, RefusesCachedTokensWithoutPages) {
  SeqStart start = Start(0, 6, {PageId(0)});
  start.num_cached_tokens = 5;
  ExpectBroken(ApplyStart(start), "5 cached tokens do not lie in 1 pages");
}
TEST_F(SlotTableTest, RefusesAPageThatDoesNotExist) {
  ExpectBroken(ApplyStart(Start(0, 3, {PageId(20)})), "page 20; pages are 0 to 19");
  Occupy();
  SeqStep step = Known(1, 1, false);
  step.new_pages = {PageId(4294967295u)};
  ExpectBroken(ApplySteps({step}), "page 4294967295");
}
TEST_F(SlotTableTest, RefusesMorePagesThanAContextNeeds) {
  SeqStart start = Start(0, 3, {});
  for (uint32_t i = 0; i < 6; ++i) start.pages.push_back(PageId(i));
  ExpectBroken(ApplyStart(start), "6 pages");
  Occupy();
  SeqStep step = Known(1, 1, false);
  for (uint32_t i = 0; i < 4; ++i) step.new_pages.push_back(PageId(i));
  ExpectBroken(ApplySteps({step}), "6 pages");
}
TEST_F(SlotTableTest, RefusesATokenOutsideTheVocabulary) {
  SeqStart start = Start(0, 3, {PageId(0)});
  start.token_ids[1] = 100;
  ExpectBroken(ApplyStart(start), "token id 100; ids are 0 to 99");
}
TEST_F(SlotTableTest, RefusesSamplingOutOfRange) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto expect = [&](auto change, const char* field) {
    SeqStart start = Start(0, 3, {PageId(0)});
    change(start.sampling);
    ExpectBroken(ApplyStart(start), field);
    table_.Clear();
    step_id_ = 0;
  };
  expect([](auto& s) { s.temperature = -1; }, "temperature");
  expect([&](auto& s) { s.temperature = nan; }, "temperature");
  expect([](auto& s) { s.top_p = 0; }, "top_p");
  expect([](auto& s) { s.top_p = 1.5f; }, "top_p");
  expect([&](auto& s) { s.min_p = nan; }, "min_p");
  expect([](auto& s) { s.repetition_penalty = 0; }, "repetition_penalty");
  expect([&](auto& s) { s.presence_penalty = nan; }, "presence_penalty");
  expect([&](auto& s) { s.frequency_penalty = nan; }, "frequency_penalty");
  expect([](auto& s) { s.logit_bias = {{100, 1.0f}}; }, "logit_bias");
  expect([&](auto& s) { s.logit_bias = {{1, nan}}; }, "logit_bias");
  expect([](auto& s) { s.banned_token_ids = {100}; }, "banned");
  expect([](auto& s) { s.num_logprobs = 1025; }, "num_logprobs");
  expect([](auto& s) { s.num_prompt_logprobs = 1025; }, "num_prompt_logprobs");
}
TEST_F(SlotTableTest, RefusesAStepOfNoSlot) {
  ExpectBroken(ApplySteps({Known(4, 1, false)}), "slot 4: stepped, but slots are 0 to 3");
}
TEST_F(SlotTableTest, RefusesAStepOfAnEmptySlot) {
  ExpectBroken(ApplySteps({Known(0, 1, false)}), "slot 0: stepped, but it is empty");
}
TEST_F(SlotTableTest, RefusesASlotTwiceInAStep) {
  Occupy();
  ExpectBroken(ApplySteps({Known(1, 1, false), Known(1, 1, false)}), "twice");
}
TEST_F(SlotTableTest, RefusesAStepOfNoTokens) {
  Occupy();
  ExpectBroken(ApplySteps({Known(1, 0, false)}), "num_tokens is 0");
}
TEST_F(SlotTableTest, RefusesMoreTokensThanAStepHolds) {
  SeqStart start = Start(0, 18, {});
  for (uint32_t i = 8; i < 13; ++i) start.pages.push_back(PageId(i));
  ASSERT_TRUE(ApplyStart(start).ok());
  ExpectBroken(ApplySteps({Known(0, 17, false)}), "exceed the 16 of a step");
  Occupy();
  ExpectBroken(ApplySteps({Known(1, 5, false), Known(0, 12, false)}), "exceed the 16 of a step");
}
TEST_F(SlotTableTest, RefusesMoreTokensThanAreKnown) {
  Occupy();
  ExpectBroken(ApplySteps({Known(1, 7, true)}), "7 known tokens wanted, 6 left");
}
TEST_F(SlotTableTest, RefusesAHugeTokenCount) {
  Occupy();
  ExpectBroken(ApplySteps({Known(1, 4294967295u, true)}), "exceed");
}
TEST_F(SlotTableTest, RefusesAContextOutsideItsPages) {
  ASSERT_TRUE(ApplyStart(Start(0, 6, {PageId(0)})).ok());
  ExpectBroken(ApplySteps({Known(0, 5, false)}), "5 tokens do not lie in 1 pages");
}
TEST_F(SlotTableTest, RefusesSamplingBeforeTheLastKnownToken) {
  Occupy();
  ExpectBroken(ApplySteps({Known(1, 3, true)}), "samples before");
}
TEST_F(SlotTableTest, RefusesNotSamplingAfterTheLastKnownToken) {
  Occupy();
  ExpectBroken(ApplySteps({Known(1, 6, false)}), "does not sample");
}
TEST_F(SlotTableTest, RefusesTheLastSampledTokenWhereNoneWasSampled) {
  Occupy();
  ExpectBroken(ApplySteps({Last(1)}), "no sampled token");
}
TEST_F(SlotTableTest, RefusesSeveralLastSampledTokens) {
  Occupy();
  ASSERT_TRUE(ApplySteps({Known(1, 6, true)}).ok());
  SeqStep step = Last(1);
  step.num_tokens = 2;
  ExpectBroken(ApplySteps({step}), "num_tokens is 2");
}
TEST_F(SlotTableTest, RefusesKnownTokensAfterTheKnownOnes) {
  Occupy();
  ASSERT_TRUE(ApplySteps({Known(1, 6, true)}).ok());
  ExpectBroken(ApplySteps({Known(1, 1, true)}), "1 known tokens wanted, 0 left");
}

}  // namespace
}  // namespace mili::worker

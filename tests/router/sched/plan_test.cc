// What a step contains, and in which order sequences get their share.
#include "tests/router/sched/scheduler_fixture.h"

namespace mili::router::testing {
namespace {

using PlanTest = SchedulerTest;

uint32_t NumTokens(const StepPlan& plan) {
  uint32_t num = 0;
  for (const SeqStep& row : plan.step) num += row.num_tokens;
  return num;
}

TEST_F(PlanTest, PlansNothingWithoutAnEpochOrARequest) {
  scheduler_ = std::make_unique<Scheduler>(options_);
  EXPECT_TRUE(scheduler_->Add(MakeRequest(3, 3)).ok());
  EXPECT_FALSE(scheduler_->Next(now_).has_value());
  Open();
  EXPECT_TRUE(Plan().has_value());
  RunToEnd();
  EXPECT_FALSE(Plan().has_value());
}

TEST_F(PlanTest, StartsASequenceWithAllItsTokensAndPages) {
  Open();
  const auto request = Add(9, 4);
  const auto plan = Plan();
  ASSERT_TRUE(plan.has_value());
  ASSERT_EQ(plan->start.size(), 1u);
  EXPECT_EQ(plan->epoch, epoch_);
  EXPECT_EQ(plan->step_id, StepId(1));
  EXPECT_EQ(plan->start[0].token_ids, request->prompt_token_ids);
  EXPECT_EQ(plan->start[0].num_prompt_tokens, 9u);
  EXPECT_EQ(plan->start[0].num_cached_tokens, 0u);
  EXPECT_EQ(plan->start[0].pages.size(), 3u);  // 9 tokens in pages of 4
  ASSERT_EQ(plan->step.size(), 1u);
  EXPECT_EQ(plan->step[0].num_tokens, 9u);
  EXPECT_EQ(plan->step[0].source, TokenSource::kKnown);
  EXPECT_TRUE(plan->step[0].sample);
}

TEST_F(PlanTest, CutsAPromptIntoChunksOfTheBudgetAndSamplesOnlyAfterTheLast) {
  facts_.max_num_batched_tokens = 4;
  Open();
  Add(10, 2);
  for (uint32_t expected : {4u, 4u, 2u}) {
    const auto plan = Plan();
    ASSERT_TRUE(plan.has_value());
    EXPECT_EQ(NumTokens(*plan), expected);
    EXPECT_EQ(plan->step[0].sample, expected == 2);
    EXPECT_TRUE(Deliver().empty() || expected == 2);
  }
}

TEST_F(PlanTest, MixesDecodesFirstThenChunksUnderWayThenAdmissions) {
  facts_.max_num_batched_tokens = 8;
  Open();
  Add(3, 20);   // decodes from the second step on
  Add(12, 20);  // 5 tokens in the first step
  auto plan = Plan();
  ASSERT_EQ(plan->step.size(), 2u);
  EXPECT_EQ(plan->step[1].num_tokens, 5u);
  Add(6, 20);
  plan = Plan();
  ASSERT_EQ(plan->step.size(), 2u);
  EXPECT_EQ(plan->step[0].source, TokenSource::kLastSampled);
  EXPECT_EQ(plan->step[1].num_tokens, 7u);  // the rest of the second prompt takes what is left
  Deliver();
  plan = Plan();
  ASSERT_EQ(plan->step.size(), 3u);
  EXPECT_EQ(plan->start.size(), 1u);
  EXPECT_EQ(NumTokens(*plan), 8u);
}

TEST_F(PlanTest, AdmitsNoMoreSequencesThanSlotsOrMaxNumSeqs) {
  options_.max_num_seqs = 2;
  Open();
  for (int i = 0; i < 4; ++i) Add(2, 5);
  EXPECT_EQ(Plan()->step.size(), 2u);
  EXPECT_EQ(scheduler_->state().waiting.size(), 2u);
  RunToEnd();
}

TEST_F(PlanTest, KeepsAtMostTheRunAheadDepthInFlight) {
  for (uint32_t depth : {1u, 2u, 3u}) {
    options_.run_ahead_depth = depth;
    scheduler_ = nullptr;
    Open();
    Add(3, 10);
    for (uint32_t i = 0; i < depth; ++i) EXPECT_TRUE(Plan().has_value());
    EXPECT_FALSE(Plan().has_value());
    Deliver();
    EXPECT_TRUE(Plan().has_value());
    RunToEnd();
  }
}

TEST_F(PlanTest, FeedsTheLastSampledTokenBeforeItIsKnown) {
  Open();
  Add(3, 10);
  Plan();
  const auto plan = Plan();
  ASSERT_TRUE(plan.has_value());
  EXPECT_TRUE(plan->start.empty());
  ASSERT_EQ(plan->step.size(), 1u);
  EXPECT_EQ(plan->step[0].source, TokenSource::kLastSampled);
  EXPECT_EQ(plan->step[0].num_tokens, 1u);
  EXPECT_TRUE(plan->step[0].sample);
}

TEST_F(PlanTest, AppendsAPageOnlyWhenTheLastIsFull) {
  Open();
  Add(3, 10);
  Plan();
  EXPECT_TRUE(Plan()->step[0].new_pages.empty());  // position 3, the fourth of page 0
  Deliver();
  EXPECT_EQ(Plan()->step[0].new_pages.size(), 1u);  // position 4
  RunToEnd();
}

TEST_F(PlanTest, PlansNoRowBeyondMaxTokens) {
  Open();
  Add(3, 2);
  EXPECT_TRUE(Plan().has_value());
  EXPECT_TRUE(Plan().has_value());
  Deliver();
  EXPECT_FALSE(Plan().has_value());  // both tokens are sampled or in flight
  EXPECT_EQ(FinishOf(Deliver(), RequestKey(1))->reason, FinishReason::kLength);
}

TEST_F(PlanTest, AdmitsInOrderOfArrivalUnderFcfsWhateverThePriority) {
  facts_.num_slots = 1;
  Open();
  auto first = MakeRequest(2, 2), second = MakeRequest(2, 2);
  first->priority = 5;
  second->priority = -5;
  EXPECT_TRUE(scheduler_->Add(second).ok());
  EXPECT_TRUE(scheduler_->Add(first).ok());
  EXPECT_EQ(Plan()->start[0].token_ids, first->prompt_token_ids);
  RunToEnd();
}

TEST_F(PlanTest, AdmitsLowerPriorityNumbersFirstUnderPriority) {
  facts_.num_slots = 1;
  options_.policy = SchedulerOptions::Policy::kPriority;
  Open();
  auto first = MakeRequest(2, 2), second = MakeRequest(2, 2);
  first->priority = 5;
  second->priority = -5;
  EXPECT_TRUE(scheduler_->Add(first).ok());
  EXPECT_TRUE(scheduler_->Add(second).ok());
  EXPECT_EQ(Plan()->start[0].token_ids, second->prompt_token_ids);
  RunToEnd();
}

TEST_F(PlanTest, LetsNobodyOvertakeTheHeadOfTheQueue) {
  facts_.num_pages = 8;
  facts_.max_num_batched_tokens = 64;
  Open();
  Add(12, 4);
  Plan();
  Add(28, 2);  // does not fit beside the first
  Add(2, 2);   // would, but came later
  EXPECT_EQ(Plan()->start.size(), 0u);
  EXPECT_EQ(scheduler_->WaitingRequests(), (std::vector<RequestKey>{RequestKey(2), RequestKey(3)}));
  RunToEnd();
}

TEST_F(PlanTest, ReleasesASlotWithTheNextPlanThatMayStartInIt) {
  facts_.num_slots = 1;
  options_.run_ahead_depth = 1;
  Open();
  Add(3, 1);
  Add(3, 1);
  EXPECT_TRUE(Plan()->release.empty());
  Deliver();
  const auto plan = Plan();
  EXPECT_EQ(plan->release, std::vector<SlotId>{SlotId(0)});
  EXPECT_EQ(plan->start.at(0).slot, SlotId(0));
  RunToEnd();
}

TEST_F(PlanTest, PrefillsEachOfNChoicesForItself) {
  Open();
  auto request = MakeRequest(5, 3);
  request->num_choices = 3;
  EXPECT_TRUE(scheduler_->Add(request).ok());
  const auto plan = Plan();
  ASSERT_EQ(plan->start.size(), 3u);
  for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(plan->start[i].sampling.choice_idx, i);
  const auto events = RunToEnd();
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(TokensOf(events, request->key, i),
              mili::testing::UndisturbedStream(*request, i, facts_.vocab_size).tokens);
    EXPECT_TRUE(FinishOf(events, request->key, i).has_value());
  }
}

TEST_F(PlanTest, GivesTheSameTokensAtEveryRunAheadDepth) {
  std::vector<std::vector<TokenId>> streams;
  for (uint32_t depth : {1u, 2u, 4u}) {
    options_.run_ahead_depth = depth;
    scheduler_ = nullptr;
    last_key_ = 0;
    facts_.num_pages = 20;  // some are preempted
    Open();
    for (uint32_t i = 0; i < 6; ++i) {
      auto request = MakeRequest(4 + i, 25);
      request->stop_token_ids = {1, 2, 3};
      EXPECT_TRUE(scheduler_->Add(request).ok());
    }
    const auto events = RunToEnd();
    std::vector<TokenId> all;
    for (uint64_t key = 1; key <= 6; ++key) {
      for (TokenId id : TokensOf(events, RequestKey(key))) all.push_back(id);
    }
    streams.push_back(all);
  }
  EXPECT_EQ(streams[0], streams[1]);
  EXPECT_EQ(streams[0], streams[2]);
}

}  // namespace
}  // namespace mili::router::testing

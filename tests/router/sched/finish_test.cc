// How choices end, what is scored, and results that break the contract.
#include "tests/router/sched/scheduler_fixture.h"

namespace mili::router::testing {
namespace {

using FinishTest = SchedulerTest;
using mili::testing::UndisturbedStream;

TEST_F(FinishTest, EndsAtAStopTokenDropsItsGhostsAndNamesTheToken) {
  Open();
  auto request = MakeRequest(4, 20);
  const auto free_stream = UndisturbedStream(*request, 0, facts_.vocab_size).tokens;
  request->stop_token_ids = {free_stream[5]};
  const auto expected = UndisturbedStream(*request, 0, facts_.vocab_size);
  EXPECT_TRUE(scheduler_->Add(request).ok());
  const auto events = RunToEnd();
  EXPECT_EQ(TokensOf(events, request->key), expected.tokens);
  const auto finish = FinishOf(events, request->key);
  EXPECT_EQ(finish->reason, FinishReason::kStop);
  EXPECT_EQ(finish->matched_token_id, expected.tokens.back());
  EXPECT_EQ(scheduler_->state().pool->num_free(), facts_.num_pages);
}

TEST_F(FinishTest, CountsNoStopTokenBeforeMinTokens) {
  Open();
  auto request = MakeRequest(4, 20);
  const auto free_stream = UndisturbedStream(*request, 0, facts_.vocab_size).tokens;
  // Not banned on the worker, so it comes, and must be passed over.
  request->stop_token_ids = {free_stream[0]};
  request->sampling.min_tokens = 3;
  EXPECT_TRUE(scheduler_->Add(request).ok());
  const auto tokens = TokensOf(RunToEnd(), request->key);
  EXPECT_GT(tokens.size(), 3u);
  EXPECT_EQ(tokens[0], free_stream[0]);
}

TEST_F(FinishTest, EndsOneChoiceOnAStopStringAndLetsTheOthersGoOn) {
  Open();
  auto request = MakeRequest(4, 8);
  request->num_choices = 2;
  EXPECT_TRUE(scheduler_->Add(request).ok());
  Plan();
  EXPECT_TRUE(scheduler_->FinishChoice(request->key, 0));
  EXPECT_TRUE(scheduler_->FinishChoice(request->key, 0));  // once more changes nothing
  EXPECT_FALSE(scheduler_->FinishChoice(request->key, 2));
  auto events = scheduler_->TakeEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].finish->reason, FinishReason::kStop);
  events = RunToEnd();
  EXPECT_EQ(TokensOf(events, request->key, 0).size(), 0u);
  EXPECT_EQ(TokensOf(events, request->key, 1).size(), 8u);
}

TEST_F(FinishTest, CancelsAllChoicesWaitingOrRunning) {
  facts_.num_slots = 1;
  Open();
  auto request = MakeRequest(4, 8);
  request->num_choices = 3;
  EXPECT_TRUE(scheduler_->Add(request).ok());
  Plan();
  EXPECT_TRUE(scheduler_->Cancel(request->key, absl::CancelledError("gone")));
  EXPECT_FALSE(scheduler_->Cancel(request->key, absl::CancelledError("gone")));
  EXPECT_EQ(scheduler_->TakeEvents().size(), 3u);
  EXPECT_TRUE(scheduler_->is_idle());
  EXPECT_TRUE(Deliver().empty());  // its row was a ghost
  EXPECT_EQ(scheduler_->state().pool->num_free(), facts_.num_pages);
}

TEST_F(FinishTest, AbortsWithTheReasonAbort) {
  Open();
  const auto request = Add(4, 8);
  EXPECT_TRUE(scheduler_->Abort(request->key));
  EXPECT_EQ(FinishOf(scheduler_->TakeEvents(), request->key)->reason, FinishReason::kAbort);
}

TEST_F(FinishTest, ScoresThePromptOfTheFirstChoiceInOrderAcrossChunks) {
  facts_.max_num_batched_tokens = 3;
  Open();
  auto request = MakeRequest(10, 2);
  request->sampling.num_prompt_logprobs = 0;
  request->num_choices = 2;
  EXPECT_TRUE(scheduler_->Add(request).ok());
  std::vector<TokenId> scored;
  for (const TokenEvent& event : RunToEnd()) {
    EXPECT_TRUE(event.prompt_logprobs.empty() || event.choice_idx == 0);
    for (const SampledToken& token : event.prompt_logprobs) scored.push_back(token.id);
  }
  EXPECT_EQ(scored, std::vector<TokenId>(request->prompt_token_ids.begin() + 1,
                                         request->prompt_token_ids.end()));
}

TEST_F(FinishTest, ScoresOnlyWithMaxTokens0AndSamplesNothing) {
  Open();
  auto request = MakeRequest(7, 0);
  request->sampling.num_prompt_logprobs = 2;
  EXPECT_TRUE(scheduler_->Add(request).ok());
  const auto plan = Plan();
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->step[0].num_tokens, 6u);  // the last prompt token has no successor to score
  EXPECT_FALSE(plan->step[0].sample);
  const auto events = Deliver();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].prompt_logprobs.size(), 6u);
  EXPECT_EQ(events[0].finish->reason, FinishReason::kLength);
  EXPECT_TRUE(scheduler_->is_idle());
}

TEST_F(FinishTest, EndsAtOnceWhereThereIsNothingToCompute) {
  Open();
  auto request = MakeRequest(1, 0);
  request->sampling.num_prompt_logprobs = 0;
  EXPECT_TRUE(scheduler_->Add(request).ok());
  EXPECT_EQ(FinishOf(scheduler_->TakeEvents(), request->key)->reason, FinishReason::kLength);
  EXPECT_TRUE(scheduler_->is_idle());
}

TEST_F(FinishTest, RefusesWhatCanNeverFitAndLeavesNoTrace) {
  facts_.num_pages = 8;  // 32 tokens
  Open();
  EXPECT_TRUE(absl::IsInvalidArgument(scheduler_->Add(MakeRequest(30, 4))));
  EXPECT_TRUE(absl::IsInvalidArgument(scheduler_->Add(MakeRequest(100, 100))));
  EXPECT_TRUE(scheduler_->Add(MakeRequest(30, 3)).ok());  // the last token is never fed
  auto bad = MakeRequest(3, 3);
  bad->prompt_token_ids[2] = facts_.vocab_size;
  EXPECT_TRUE(absl::IsInvalidArgument(scheduler_->Add(bad)));
  EXPECT_EQ(scheduler_->state().requests.size(), 1u);
  RunToEnd();
}

TEST_F(FinishTest, EndsAtTheDeadlineWhereverItWaits) {
  facts_.num_slots = 1;
  Open();
  auto running = MakeRequest(4, 8), waiting = MakeRequest(4, 8);
  running->deadline = waiting->deadline = now_ + absl::Seconds(1);
  EXPECT_TRUE(scheduler_->Add(running).ok());
  EXPECT_TRUE(scheduler_->Add(waiting).ok());
  Plan();
  EXPECT_EQ(scheduler_->next_deadline(), running->deadline);
  scheduler_->Expire(running->deadline - absl::Nanoseconds(1), absl::Seconds(1));
  EXPECT_TRUE(scheduler_->TakeEvents().empty());
  scheduler_->Expire(running->deadline, absl::Seconds(1));
  const auto events = scheduler_->TakeEvents();
  ASSERT_EQ(events.size(), 2u);
  for (const TokenEvent& event : events) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(event.finish->status));
  }
  EXPECT_EQ(scheduler_->next_deadline(), absl::InfiniteFuture());
}

TEST_F(FinishTest, EndsWithUnavailableAndAHintWhatTheQueueKeptTooLong) {
  facts_.num_slots = 1;
  Open();
  auto running = MakeRequest(4, 8), waiting = MakeRequest(4, 8);
  running->queue_deadline = waiting->queue_deadline = now_ + absl::Seconds(1);
  EXPECT_TRUE(scheduler_->Add(running).ok());
  EXPECT_TRUE(scheduler_->Add(waiting).ok());
  Plan();  // the first has its slot: its queue deadline is past
  scheduler_->Expire(now_ + absl::Seconds(2), absl::Seconds(7));
  const auto events = scheduler_->TakeEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].request, waiting->key);
  EXPECT_TRUE(absl::IsUnavailable(events[0].finish->status));
  EXPECT_TRUE(
      events[0].finish->status.GetPayload("type.googleapis.com/google.rpc.RetryInfo").has_value());
}

TEST_F(FinishTest, GivesALostWorkerTheQueueTimeoutAnewToComeBack) {
  Open();
  auto request = MakeRequest(4, 8);
  request->queue_deadline = request->arrival + absl::Seconds(10);
  EXPECT_TRUE(scheduler_->Add(request).ok());
  Plan();
  now_ += absl::Minutes(5);
  Lose();
  EXPECT_EQ(scheduler_->next_deadline(), now_ + absl::Seconds(10));
  scheduler_->Expire(now_ + absl::Seconds(10), absl::Seconds(1));
  const auto finish = FinishOf(scheduler_->TakeEvents(), request->key);
  EXPECT_TRUE(absl::IsUnavailable(finish->status));
  EXPECT_NE(finish->status.message().find("lost"), absl::string_view::npos);
}

TEST_F(FinishTest, FailsARequestAloneWhenItsRowFails) {
  Open();
  auto bad = MakeRequest(4, 8);
  bad->num_choices = 2;
  EXPECT_TRUE(scheduler_->Add(bad).ok());
  const auto good = Add(4, 8);
  Plan();
  RowResult& row = results_.front().rows[0];
  row.tokens.clear();
  row.status = absl::InternalError("logits are NaN");
  const auto events = Deliver();
  EXPECT_EQ(FinishOf(events, bad->key, 0)->status.message(), "logits are NaN");
  EXPECT_EQ(FinishOf(events, bad->key, 1)->status.message(), "logits are NaN");
  EXPECT_TRUE(FinishOf(RunToEnd(), good->key)->status.ok());
}

// One result that breaks each rule; the scheduler must notice and change nothing.
TEST_F(FinishTest, RefusesResultsThatBreakTheContract) {
  Open();
  Add(4, 8);
  auto scored = MakeRequest(4, 8);
  scored->sampling.num_prompt_logprobs = 0;
  EXPECT_TRUE(scheduler_->Add(scored).ok());
  Plan();
  const StepResult good = results_.front();
  using Damage = void (*)(StepResult&);
  const Damage kDamages[] = {
      [](StepResult& r) { ++r.step_id.value; },
      [](StepResult& r) { r.rows.pop_back(); },
      [](StepResult& r) { r.rows.push_back(r.rows[0]); },
      [](StepResult& r) { std::swap(r.rows[0], r.rows[1]); },
      [](StepResult& r) { r.rows[0].slot = SlotId(77); },
      [](StepResult& r) { r.rows[0].tokens.clear(); },
      [](StepResult& r) { r.rows[0].tokens.push_back(r.rows[0].tokens[0]); },
      [](StepResult& r) { r.rows[0].tokens[0].id = 1'000'000; },
      [](StepResult& r) { r.rows[1].prompt_logprobs.pop_back(); },
      [](StepResult& r) { r.rows[1].prompt_logprobs[0].id = 1'000'000; },
      [](StepResult& r) { r.rows[0].prompt_logprobs = r.rows[1].prompt_logprobs; },
      [](StepResult& r) { r.rows[0].status = absl::InternalError("and yet tokens"); },
  };
  for (const Damage damage : kDamages) {
    StepResult bad = good;
    damage(bad);
    EXPECT_TRUE(absl::IsInternal(scheduler_->Apply(std::move(bad), now_)));
    EXPECT_TRUE(scheduler_->TakeEvents().empty());
    EXPECT_EQ(scheduler_->num_steps_in_flight(), 1u);
  }
  RunToEnd();
}

TEST_F(FinishTest, DropsResultsOfAnotherEpoch) {
  Open();
  Add(4, 8);
  Plan();
  const StepResult stale = results_.front();
  Lose();
  EXPECT_TRUE(scheduler_->Apply(stale, now_).ok());
  Open();
  EXPECT_TRUE(scheduler_->Apply(stale, now_).ok());
  EXPECT_TRUE(scheduler_->TakeEvents().empty());
  RunToEnd();
}

TEST_F(FinishTest, RefusesFactsThatCannotBeScheduledWith) {
  EXPECT_TRUE(CheckFacts(facts_).ok());
  for (uint32_t WorkerFacts::*field :
       {&WorkerFacts::page_size_tokens, &WorkerFacts::num_pages, &WorkerFacts::num_slots,
        &WorkerFacts::max_num_batched_tokens, &WorkerFacts::max_model_len,
        &WorkerFacts::vocab_size}) {
    WorkerFacts facts = facts_;
    facts.*field = 0;
    EXPECT_TRUE(absl::IsFailedPrecondition(CheckFacts(facts)));
  }
  facts_.num_pages = 0xffffffff;
  EXPECT_FALSE(CheckFacts(facts_).ok());
}

}  // namespace
}  // namespace mili::router::testing

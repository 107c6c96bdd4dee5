// Preemption, lost epochs, and moving between schedulers.
#include "tests/router/sched/scheduler_fixture.h"

namespace mili::router::testing {
namespace {

using RestartTest = SchedulerTest;
using mili::testing::UndisturbedStream;

TEST_F(RestartTest, PreemptsTheNewestWhenThePoolIsFull) {
  facts_.num_pages = 6;
  Open();
  const auto first = Add(8, 12);   // 5 pages at its longest
  const auto second = Add(4, 12);  // 4 pages
  std::vector<TokenEvent> events;
  while (scheduler_->state().num_preemptions == 0) {
    while (Plan().has_value()) {
    }
    for (auto& event : Deliver()) events.push_back(event);
    ASSERT_FALSE(scheduler_->is_idle());
  }
  const RequestRecord& record = *scheduler_->state().requests.at(second->key);
  EXPECT_EQ(record.num_preemptions, 1u);
  EXPECT_NE(record.choices[0].state, Sequence::State::kRunning);
  EXPECT_EQ(ProgressOf(record).state, RequestProgress::State::kRestarting);
  for (auto& event : RunToEnd()) events.push_back(event);
  for (const auto& request : {first, second}) {
    EXPECT_EQ(TokensOf(events, request->key),
              UndisturbedStream(*request, 0, facts_.vocab_size).tokens);
  }
}

TEST_F(RestartTest, PreemptsTheLowestPriorityBeforeTheNewest) {
  facts_.num_pages = 6;
  options_.policy = SchedulerOptions::Policy::kPriority;
  Open();
  auto low = MakeRequest(4, 12);
  low->priority = 3;
  EXPECT_TRUE(scheduler_->Add(low).ok());
  Plan();
  Add(8, 12);  // newer, but of priority 0
  RunToEnd();
  EXPECT_GE(scheduler_->state().num_preemptions, 1u);
  bool low_was_preempted = false;
  for (const RequestProgress& progress : scheduler_->TakeNews()) {
    if (progress.key == low->key) {
      low_was_preempted = progress.num_preemptions > 0;
    } else {
      EXPECT_EQ(progress.num_preemptions, 0u);
    }
  }
  EXPECT_TRUE(low_was_preempted);
}

TEST_F(RestartTest, CountsResultsInFlightOfAPreemptedSequenceAndRestartsWithThem) {
  facts_.num_pages = 6;
  Open();
  Add(8, 12);
  const auto second = Add(4, 12);
  std::vector<TokenEvent> events;
  std::optional<SeqStart> restart;
  while (!restart.has_value()) {
    while (auto plan = Plan()) {
      for (const SeqStart& start : plan->start) {
        if (start.num_prompt_tokens == 4 && start.token_ids.size() > 4) restart = start;
      }
    }
    for (auto& event : Deliver()) events.push_back(event);
  }
  // Prompt and everything produced are known tokens; the prompt's length has not changed.
  std::vector<TokenId> known = second->prompt_token_ids;
  for (TokenId id : TokensOf(events, second->key)) known.push_back(id);
  known.resize(restart->token_ids.size());
  EXPECT_EQ(restart->token_ids, known);
  RunToEnd();
}

TEST_F(RestartTest, GivesNoPageAwayThatASubmittedStepNames) {
  facts_.num_pages = 4;
  facts_.num_slots = 1;
  Open();
  Add(8, 4);
  Plan();
  Plan();
  scheduler_->Cancel(RequestKey(1), absl::CancelledError("gone"));
  EXPECT_EQ(scheduler_->state().pool->num_free(), 1u);
  Add(8, 2);  // needs two pages; one is free, the rest is named by steps in flight
  EXPECT_EQ(scheduler_->state().in_flight.back().retired.size(), 3u);
  Deliver();
  EXPECT_FALSE(Plan().has_value());
  Deliver();
  EXPECT_EQ(scheduler_->state().pool->num_free(), 4u);
  EXPECT_TRUE(Plan().has_value());
  RunToEnd();
}

TEST_F(RestartTest, RestartsEverythingInOrderAfterALostEpochAndLosesNoToken) {
  facts_.num_slots = 3;
  Open();
  std::vector<std::shared_ptr<Request>> requests;
  for (int i = 0; i < 5; ++i) requests.push_back(Add(4, 10));
  std::vector<TokenEvent> events;
  for (int i = 0; i < 4; ++i) {
    while (Plan().has_value()) {
    }
    for (auto& event : Deliver()) events.push_back(event);
  }
  Lose();
  EXPECT_EQ(scheduler_->WaitingRequests().size(), 5u);
  EXPECT_EQ(scheduler_->WaitingRequests().front(), requests[0]->key);
  EXPECT_FALSE(Plan().has_value());
  Open();
  for (auto& event : RunToEnd()) events.push_back(event);
  for (const auto& request : requests) {
    EXPECT_EQ(TokensOf(events, request->key),
              UndisturbedStream(*request, 0, facts_.vocab_size).tokens);
  }
}

TEST_F(RestartTest, FailsARequestAloneThatWasInTwoLostBatches) {
  facts_.num_slots = 1;
  Open();
  const auto unlucky = Add(4, 10), waiting = Add(4, 10);
  Plan();
  Lose();
  EXPECT_TRUE(scheduler_->TakeEvents().empty());
  Open();
  Plan();
  Lose();
  const auto events = scheduler_->TakeEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].request, unlucky->key);
  EXPECT_TRUE(absl::IsInternal(events[0].finish->status));
  EXPECT_TRUE(
      events[0].finish->status.GetPayload("type.googleapis.com/google.rpc.ErrorInfo").has_value());
  Open();
  EXPECT_EQ(TokensOf(RunToEnd(), waiting->key).size(), 10u);
}

TEST_F(RestartTest, CountsNoLostBatchForRequestsWithNothingInFlight) {
  options_.run_ahead_depth = 1;
  Open();
  const auto request = Add(4, 10);
  for (int i = 0; i < 3; ++i) {
    Plan();
    Deliver();
    Lose();
    EXPECT_EQ(scheduler_->state().requests.at(request->key)->num_lost_batches, 0u);
    Open();
  }
  RunToEnd();
}

TEST_F(RestartTest, FailsWhatNoLongerFitsTheNextEpoch) {
  Open();
  Add(100, 20);
  const auto fits = Add(4, 4);
  Lose();
  facts_.num_pages = 4;
  Open();
  const auto events = scheduler_->TakeEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].request, RequestKey(1));
  EXPECT_TRUE(absl::IsInvalidArgument(events[0].finish->status));
  EXPECT_TRUE(FinishOf(RunToEnd(), fits->key).has_value());
}

TEST_F(RestartTest, HandsRequestsToAnotherSchedulerWithTheirTokens) {
  Open();
  const auto request = Add(4, 12);
  std::vector<TokenEvent> events;
  for (int i = 0; i < 5; ++i) {
    Plan();
    for (auto& event : Deliver()) events.push_back(event);
  }
  Lose();
  auto records = scheduler_->TakeRequests();
  EXPECT_TRUE(scheduler_->is_idle());
  EXPECT_EQ(scheduler_->next_deadline(), absl::InfiniteFuture());
  scheduler_ = nullptr;
  Open();
  for (auto& record : records) scheduler_->Adopt(std::move(record));
  for (auto& event : RunToEnd()) events.push_back(event);
  EXPECT_EQ(TokensOf(events, request->key),
            UndisturbedStream(*request, 0, facts_.vocab_size).tokens);
}

}  // namespace
}  // namespace mili::router::testing

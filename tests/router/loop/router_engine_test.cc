#include "router/loop/router_engine.h"

#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "tests/router/loop/fakes.h"
#include "tests/support/puppet_group.h"

namespace mili::router {
namespace {

using mili::testing::PuppetFacts;
using mili::testing::UndisturbedStream;
using router::testing::Heard;
using router::testing::MakeRequest;
using router::testing::ManualClock;
using router::testing::PuppetGroup;
using router::testing::RecordingProbe;
using router::testing::RecordingSink;

class RouterEngineTest : public ::testing::Test {
 protected:
  // Starts an engine of `num_groups` puppets and waits for those that are alive.
  void Serve(size_t num_groups = 1, EngineOptions options = {}, bool is_dead = false) {
    std::vector<std::unique_ptr<GroupClient>> clients;
    for (size_t i = 0; i < num_groups; ++i) {
      auto group = std::make_unique<PuppetGroup>(facts_, is_dead);
      groups_.push_back(group.get());
      clients.push_back(std::move(group));
    }
    engine_ =
        std::make_unique<RouterEngine>(std::move(options), std::move(clients), &probe_, &clock_);
    engine_->Start();
    for (size_t i = 0; i < num_groups && !is_dead; ++i) probe_.WaitUntilReady(i);
  }

  std::shared_ptr<Request> Submit(uint64_t key, uint32_t num_prompt, uint32_t max_tokens) {
    auto request = MakeRequest(key, num_prompt, max_tokens, clock_.Now());
    EXPECT_TRUE(engine_->Submit(request, sink_).ok());
    return request;
  }

  void ExpectUndisturbed(const Request& request) {
    const Heard heard = sink_->WaitForFinish(request.key);
    const auto expected = UndisturbedStream(request, 0, facts_.vocab_size);
    ASSERT_EQ(heard.finishes.size(), 1u);
    EXPECT_TRUE(heard.finishes[0].status.ok()) << heard.finishes[0].status;
    EXPECT_EQ(heard.finishes[0].reason, expected.reason);
    EXPECT_EQ(heard.tokens, expected.tokens);
  }

  // The loop looks at its clock again.
  void Nudge(RequestKey live) { engine_->FinishChoice(live, 1'000'000); }

  void TearDown() override {
    if (engine_ == nullptr) return;
    for (PuppetGroup* group : groups_) EXPECT_EQ(group->complaints(), std::vector<std::string>());
    engine_->Stop();
  }

  WorkerFacts facts_ = PuppetFacts();
  ManualClock clock_;
  RecordingProbe probe_;
  std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
  std::vector<PuppetGroup*> groups_;
  std::unique_ptr<RouterEngine> engine_;
};

TEST_F(RouterEngineTest, DeliversEachStreamWholeAndOnce) {
  Serve();
  std::vector<std::shared_ptr<Request>> requests;
  for (uint64_t key = 1; key <= 40; ++key)
    requests.push_back(Submit(key, 3 + key % 20, key % 17 + 1));
  for (const auto& request : requests) ExpectUndisturbed(*request);
  probe_.WaitFor(0, [](const GroupSnapshot& s) { return s.num_pages_free == s.num_pages_total; });
  const GroupSnapshot snapshot = engine_->Groups().at(0);
  EXPECT_EQ(snapshot.num_slots_free, snapshot.num_slots_total);
  EXPECT_TRUE(snapshot.has_produced_token);
  EXPECT_EQ(engine_->num_active_requests(), 0u);
}

TEST_F(RouterEngineTest, ServesManyThreadsThatCancelAtRandom) {
  facts_.num_pages = 40;  // too few for all: some are preempted
  Serve(2);
  std::vector<std::thread> clients;
  for (uint64_t client = 0; client < 4; ++client) {
    clients.emplace_back([this, client] {
      std::mt19937 random(static_cast<uint32_t>(client));
      for (uint64_t i = 0; i < 60; ++i) {
        auto request =
            MakeRequest(client * 1000 + i + 1, 1 + random() % 30, 1 + random() % 40, clock_.Now());
        ASSERT_TRUE(engine_->Submit(request, sink_).ok());
        if (random() % 3 == 0) {
          engine_->Cancel(request->key, absl::CancelledError("the client went away"));
          const Heard heard = sink_->WaitForFinish(request->key);
          ASSERT_EQ(heard.finishes.size(), 1u);
        } else if (random() % 3 == 0) {
          ExpectUndisturbed(*request);
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (size_t group = 0; group < 2; ++group) {
    probe_.WaitFor(group, [](const GroupSnapshot& s) {
      return s.num_running == 0 && s.num_waiting == 0 && s.num_pages_free == s.num_pages_total &&
             s.num_slots_free == s.num_slots_total;
    });
  }
}

TEST_F(RouterEngineTest, ContinuesEveryStreamToTheSameTokensAfterALostWorker) {
  Serve();
  std::vector<std::shared_ptr<Request>> requests;
  for (uint64_t key = 1; key <= 12; ++key) requests.push_back(Submit(key, 5, 60));
  sink_->WaitForTokens(requests[0]->key, 10);
  groups_[0]->Kill();
  probe_.WaitFor(0, [](const GroupSnapshot& s) { return !s.is_ready; });
  EXPECT_EQ(engine_->Groups().at(0).not_ready_reason, "killed");
  groups_[0]->Revive();
  for (const auto& request : requests) ExpectUndisturbed(*request);
}

TEST_F(RouterEngineTest, MovesRequestsOfALostGroupToAReadyOne) {
  Serve(2);
  for (PuppetGroup* group : groups_) group->HoldResults();
  std::vector<std::shared_ptr<Request>> requests;
  for (uint64_t key = 1; key <= 10; ++key) requests.push_back(Submit(key, 5, 30));
  groups_[0]->Kill();
  probe_.WaitFor(0, [](const GroupSnapshot& s) { return !s.is_ready; });
  groups_[1]->ReleaseResults();
  for (const auto& request : requests) ExpectUndisturbed(*request);
  EXPECT_EQ(engine_->Find("request-1")->state, RequestStatus::State::kFinished);
}

TEST_F(RouterEngineTest, CancelsARequestThatHasMovedToAnotherGroup) {
  Serve(2);
  for (PuppetGroup* group : groups_) group->HoldResults();
  std::vector<std::shared_ptr<Request>> requests;
  for (uint64_t key = 1; key <= 6; ++key) requests.push_back(Submit(key, 5, 30));
  groups_[0]->Kill();
  for (const auto& request : requests) engine_->Cancel(request->key, absl::CancelledError("gone"));
  for (const auto& request : requests) {
    EXPECT_TRUE(absl::IsCancelled(sink_->WaitForFinish(request->key).finishes.at(0).status));
  }
}

TEST_F(RouterEngineTest, QueuesForALostWorkerAndEndsWithUnavailableAtTheDeadline) {
  Serve();
  groups_[0]->HoldResults();
  auto request = MakeRequest(1, 4, 30, clock_.Now());
  request->deadline = clock_.Now() + absl::Seconds(5);
  ASSERT_TRUE(engine_->Submit(request, sink_).ok());
  probe_.WaitFor(0, [](const GroupSnapshot& s) { return s.num_running == 1; });
  groups_[0]->Kill();
  probe_.WaitFor(0, [](const GroupSnapshot& s) { return !s.is_ready; });
  clock_.Advance(absl::Seconds(6));
  Nudge(request->key);
  EXPECT_TRUE(absl::IsUnavailable(sink_->WaitForFinish(request->key).finishes.at(0).status));
}

TEST_F(RouterEngineTest, EndsARunningRequestAtItsDeadline) {
  Serve();
  groups_[0]->HoldResults();
  auto request = MakeRequest(1, 4, 30, clock_.Now());
  request->deadline = clock_.Now() + absl::Seconds(5);
  ASSERT_TRUE(engine_->Submit(request, sink_).ok());
  clock_.Advance(absl::Seconds(6));
  Nudge(request->key);
  EXPECT_TRUE(absl::IsDeadlineExceeded(sink_->WaitForFinish(request->key).finishes.at(0).status));
  groups_[0]->ReleaseResults();
}

TEST_F(RouterEngineTest, MarksAnOverdueStepAndThenAbandonsTheEpoch) {
  EngineOptions options;
  options.step_timeout = absl::Seconds(30);
  Serve(1, options);
  groups_[0]->HoldResults();
  auto request = Submit(1, 4, 8);
  probe_.WaitFor(0, [](const GroupSnapshot& s) { return s.num_running == 1; });
  clock_.Advance(absl::Seconds(32));  // 30 s x (1 + 4 / 128)
  Nudge(request->key);
  probe_.WaitFor(0, [](const GroupSnapshot& s) { return s.is_step_overdue && s.is_ready; });
  clock_.Advance(absl::Seconds(15));
  Nudge(request->key);
  probe_.WaitFor(0, [](const GroupSnapshot& s) { return s.epoch == Epoch(2); });
  groups_[0]->ReleaseResults();
  ExpectUndisturbed(*request);
  EXPECT_EQ(engine_->Find("request-1")->num_lost_batches, 1u);
}

TEST_F(RouterEngineTest, RefusesAnotherModelThanTheFirst) {
  Serve();
  groups_[0]->Kill();
  probe_.WaitFor(0, [](const GroupSnapshot& s) { return !s.is_ready; });
  WorkerFacts other = facts_;
  other.model_digest = "another";
  groups_[0]->Revive(other);
  probe_.WaitFor(0, [](const GroupSnapshot& s) {
    return s.not_ready_reason.find("another model") != std::string::npos;
  });
  EXPECT_FALSE(engine_->Groups().at(0).is_ready);
}

TEST_F(RouterEngineTest, AdmitsNobodyBeforeAWorkerWasReady) {
  Serve(1, {}, /*is_dead=*/true);
  const Engine::Admission admission = engine_->Admit(10, 1);
  EXPECT_EQ(admission.ticket, nullptr);
  EXPECT_TRUE(absl::IsUnavailable(admission.refusal.status));
  EXPECT_TRUE(absl::IsUnavailable(engine_->Submit(MakeRequest(1, 3, 3, clock_.Now()), sink_)));
}

TEST_F(RouterEngineTest, RefusesBeyondSlotsAndQueueWithAHintAndTakesAgainAfterAReturn) {
  EngineOptions options;
  options.max_num_queued_reqs = 2;
  Serve(1, options);
  std::vector<std::unique_ptr<Ticket>> tickets;
  for (uint32_t i = 0; i < facts_.num_slots + 2; ++i) {
    tickets.push_back(engine_->Admit(10, 1).ticket);
    ASSERT_NE(tickets.back(), nullptr);
  }
  const Engine::Admission refused = engine_->Admit(10, 1);
  EXPECT_TRUE(absl::IsResourceExhausted(refused.refusal.status));
  EXPECT_GE(refused.refusal.retry_after, absl::Seconds(1));
  tickets.pop_back();
  EXPECT_NE(engine_->Admit(10, 1).ticket, nullptr);
}

TEST_F(RouterEngineTest, RefusesWhatCanNeverFitAndTellsNoSink) {
  Serve();
  const absl::Status status = engine_->Submit(MakeRequest(1, 100, 100, clock_.Now()), sink_);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(status.message().find("maximum context length is 128 tokens"), std::string::npos);
  auto request = MakeRequest(2, 3, 3, clock_.Now());
  request->prompt_token_ids[1] = facts_.vocab_size;
  EXPECT_TRUE(absl::IsInvalidArgument(engine_->Submit(request, sink_)));
  EXPECT_EQ(engine_->num_active_requests(), 0u);
}

TEST_F(RouterEngineTest, DrainsOnceTheLastTicketHasReturned) {
  Serve();
  auto request = MakeRequest(1, 4, 20, clock_.Now());
  request->ticket = engine_->Admit(16, 1).ticket;
  ASSERT_TRUE(engine_->Submit(request, sink_).ok());
  Mutex mutex;
  CondVar drained;
  bool is_drained = false;
  engine_->Drain([&] {
    MutexLock lock(mutex);
    is_drained = true;
    drained.NotifyAll();
  });
  EXPECT_TRUE(absl::IsUnavailable(engine_->Admit(10, 1).refusal.status));
  ExpectUndisturbed(*request);
  request.reset();
  MutexLock lock(mutex);
  while (!is_drained) drained.Wait(mutex);
}

TEST_F(RouterEngineTest, AbortsByTheClientsId) {
  Serve();
  groups_[0]->HoldResults();
  auto request = Submit(1, 4, 30);
  EXPECT_EQ(engine_->Abort({"request-1", "nobody"}), 1u);
  const Heard heard = sink_->WaitForFinish(request->key);
  EXPECT_TRUE(heard.finishes.at(0).status.ok());
  EXPECT_EQ(heard.finishes.at(0).reason, FinishReason::kAbort);
  EXPECT_EQ(engine_->Abort({"request-1"}), 0u);
}

TEST_F(RouterEngineTest, TellsTheStateOfARequestByItsId) {
  facts_.num_slots = 1;
  Serve();
  groups_[0]->HoldResults();
  Submit(1, 4, 8);
  Submit(2, 4, 8);
  Submit(3, 4, 8);
  probe_.WaitFor(0,
                 [](const GroupSnapshot& s) { return s.num_running == 1 && s.num_waiting == 2; });
  EXPECT_EQ(engine_->Find("request-1")->state, RequestStatus::State::kRunning);
  EXPECT_EQ(engine_->Find("request-1")->queue_place, 0u);
  EXPECT_EQ(engine_->Find("request-3")->state, RequestStatus::State::kWaiting);
  EXPECT_EQ(engine_->Find("request-3")->queue_place, 2u);
  EXPECT_FALSE(engine_->Find("nobody").has_value());
  groups_[0]->ReleaseResults();
  sink_->WaitForFinish(RequestKey(3));
  const auto status = engine_->Find("request-3");
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->state, RequestStatus::State::kFinished);
  EXPECT_EQ(status->outcome, "length");
  EXPECT_EQ(status->num_output_tokens, 8u);
  EXPECT_TRUE(status->first_token.has_value());
}

TEST_F(RouterEngineTest, TellsTheProbeOneSampleARequest) {
  Serve();
  for (uint64_t key = 1; key <= 5; ++key) Submit(key, 6, 4);
  for (uint64_t key = 1; key <= 5; ++key) sink_->WaitForFinish(RequestKey(key));
  const RecordingProbe::Counts counts = probe_.counts();
  EXPECT_EQ(counts.num_started, 5u);
  EXPECT_EQ(counts.num_prompt_tokens, 30u);
  EXPECT_EQ(counts.num_first_tokens, 5u);
  EXPECT_EQ(counts.num_next_tokens, 15u);
  EXPECT_EQ(counts.num_generated, 20u);
  EXPECT_EQ(counts.num_step_tokens, 5u * (6 + 3));
  EXPECT_EQ(counts.finished, (std::map<std::string, uint32_t>{{"length", 5}}));
}

TEST_F(RouterEngineTest, FailsWhatIsLeftWhenItStops) {
  Serve();
  groups_[0]->HoldResults();
  auto request = Submit(1, 4, 30);
  engine_->Stop();
  EXPECT_TRUE(absl::IsUnavailable(sink_->WaitForFinish(request->key).finishes.at(0).status));
  EXPECT_FALSE(engine_->Submit(MakeRequest(2, 3, 3, clock_.Now()), sink_).ok());
}

}  // namespace
}  // namespace mili::router

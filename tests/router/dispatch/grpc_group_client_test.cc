#include "router/dispatch/grpc_group_client.h"

#include <deque>
#include <variant>

#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/base/mailbox.h"
#include "common/wire/status_wire.h"
#include "common/wire/worker_wire.h"
#include "router/loop/router_engine.h"
#include "router/sched/error_details.h"
#include "tests/router/dispatch/grpc_puppet.h"
#include "tests/router/loop/fakes.h"
#include "tests/support/puppet_worker.h"

namespace mili::router {
namespace {

using mili::testing::PuppetFacts;
using mili::testing::UndisturbedStream;
using router::testing::GrpcPuppet;
using router::testing::MakeRequest;
using router::testing::RecordingProbe;
using router::testing::RecordingSink;

// News as the listener heard them, one at a time.
class NewsListener final : public GroupListener {
 public:
  struct Attached {
    Epoch epoch;
    WorkerFacts facts;
  };
  struct Lost {
    Epoch epoch;
    absl::Status reason;
  };
  struct Progress {
    uint64_t loaded_bytes;
    uint64_t total_bytes;
  };
  using News = std::variant<Progress, Attached, StepResult, Lost>;

  void OnProgress(uint64_t loaded, uint64_t total) override { news_.Post(Progress{loaded, total}); }
  void OnAttached(Epoch epoch, const WorkerFacts& facts) override {
    news_.Post(Attached{epoch, facts});
  }
  void OnResult(StepResult result) override { news_.Post(std::move(result)); }
  void OnLost(Epoch epoch, absl::Status reason) override { news_.Post(Lost{epoch, reason}); }

  // The next news of that kind; others before it are passed over.
  template <typename Kind>
  Kind Await() {
    while (true) {
      std::optional<News> news = news_.Take(absl::Now() + absl::Seconds(20));
      if (!news.has_value()) {
        ADD_FAILURE() << "no news in 20 s";
        return Kind{};
      }
      if (auto* kind = std::get_if<Kind>(&*news); kind != nullptr) return std::move(*kind);
    }
  }

 private:
  Mailbox<News> news_{1000};
};

class GrpcGroupClientTest : public ::testing::Test {
 protected:
  void Connect(GrpcGroupOptions options = {}) {
    options.addresses = {puppet_.address()};
    options.router_name = "router-under-test";
    auto client = MakeGrpcGroupClient(options);
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
    client_->Start(&listener_);
  }

  void TearDown() override {
    if (client_ != nullptr) client_->Stop();
  }

  StepPlan PlanOfOneRow(Epoch epoch, uint64_t step_id) {
    StepPlan plan;
    plan.epoch = epoch;
    plan.step_id = StepId(step_id);
    SeqStep step;
    step.slot = SlotId(0);
    step.sample = true;
    if (step_id == 1) {
      SeqStart start;
      start.slot = SlotId(0);
      start.token_ids = {1, 2, 3};
      start.num_prompt_tokens = 3;
      start.pages = {PageId(0), PageId(1), PageId(2)};
      plan.start.push_back(start);
      step.num_tokens = 3;
    } else {
      step.source = TokenSource::kLastSampled;
    }
    plan.step.push_back(step);
    return plan;
  }

  GrpcPuppet puppet_{PuppetFacts()};
  NewsListener listener_;
  std::unique_ptr<GroupClient> client_;
};

TEST_F(GrpcGroupClientTest, DescribesAttachesAndStreamsResultsInOrder) {
  puppet_.facts().last_epoch = Epoch(41);
  puppet_.Start();
  Connect();
  EXPECT_EQ(listener_.Await<NewsListener::Progress>().total_bytes, 2u);
  const auto attached = listener_.Await<NewsListener::Attached>();
  EXPECT_EQ(attached.epoch, Epoch(42));
  EXPECT_EQ(attached.facts.num_pages, PuppetFacts().num_pages);
  EXPECT_EQ(puppet_.last_router_name(), "router-under-test");
  for (uint64_t step = 1; step <= 9; ++step) client_->Send(PlanOfOneRow(Epoch(42), step));
  for (uint64_t step = 1; step <= 9; ++step) {
    const auto result = listener_.Await<StepResult>();
    EXPECT_EQ(result.step_id, StepId(step));
    EXPECT_EQ(result.rows.at(0).tokens.size(), 1u);
    client_->ReadOn();
    client_->ReadOn();  // asking twice is asking once
  }
}

TEST_F(GrpcGroupClientTest, AbandonsAnEpochWhoseNextResultIsHeldBack) {
  puppet_.Start();
  Connect();
  const Epoch first = listener_.Await<NewsListener::Attached>().epoch;
  client_->Send(PlanOfOneRow(first, 1));
  client_->Send(PlanOfOneRow(first, 2));
  listener_.Await<StepResult>();
  client_->Abandon(absl::DeadlineExceededError("a step is overdue"));
  EXPECT_EQ(listener_.Await<NewsListener::Lost>().reason.message(), "a step is overdue");
  EXPECT_GT(listener_.Await<NewsListener::Attached>().epoch, first);
}

TEST_F(GrpcGroupClientTest, NoticesALostWorkerWhenItAsksForTheNextResult) {
  puppet_.Start();
  Connect();
  const Epoch epoch = listener_.Await<NewsListener::Attached>().epoch;
  client_->Send(PlanOfOneRow(epoch, 1));
  listener_.Await<StepResult>();
  puppet_.Kill();
  client_->ReadOn();
  EXPECT_EQ(listener_.Await<NewsListener::Lost>().epoch, epoch);
}

TEST_F(GrpcGroupClientTest, DropsPlansOfAnotherEpoch) {
  puppet_.Start();
  Connect();
  const Epoch epoch = listener_.Await<NewsListener::Attached>().epoch;
  client_->Send(PlanOfOneRow(Epoch(99), 1));
  client_->Send(PlanOfOneRow(epoch, 1));
  EXPECT_EQ(listener_.Await<StepResult>().epoch, epoch);
}

TEST_F(GrpcGroupClientTest, TellsOfALostWorkerAndAttachesAgainWithAHigherEpoch) {
  puppet_.Start();
  Connect();
  const Epoch first = listener_.Await<NewsListener::Attached>().epoch;
  puppet_.Kill();
  const auto lost = listener_.Await<NewsListener::Lost>();
  EXPECT_EQ(lost.epoch, first);
  EXPECT_FALSE(lost.reason.ok());
  puppet_.Start();
  EXPECT_GT(listener_.Await<NewsListener::Attached>().epoch, first);
}

TEST_F(GrpcGroupClientTest, PassesOnWhyTheWorkerEndedTheStream) {
  puppet_.Start();
  Connect();
  const Epoch epoch = listener_.Await<NewsListener::Attached>().epoch;
  client_->Send(PlanOfOneRow(epoch, 7));
  const auto lost = listener_.Await<NewsListener::Lost>();
  EXPECT_TRUE(absl::IsInvalidArgument(lost.reason)) << lost.reason;
  EXPECT_NE(lost.reason.message().find("step 7 follows step 0"), std::string::npos);
}

TEST_F(GrpcGroupClientTest, AbandonsAnEpochForTheReasonGivenAndOpensTheNext) {
  puppet_.Start();
  Connect();
  const Epoch first = listener_.Await<NewsListener::Attached>().epoch;
  client_->Abandon(absl::DeadlineExceededError("a step is overdue"));
  EXPECT_EQ(listener_.Await<NewsListener::Lost>().reason.message(), "a step is overdue");
  EXPECT_EQ(listener_.Await<NewsListener::Attached>().epoch, Epoch(first.value + 1));
}

TEST_F(GrpcGroupClientTest, GivesUpOnAWorkerThatDoesNotAnswerAttach) {
  puppet_.set_answers_attach(false);
  puppet_.Start();
  GrpcGroupOptions options;
  options.attach_timeout = absl::Milliseconds(50);
  Connect(options);
  EXPECT_TRUE(absl::IsDeadlineExceeded(listener_.Await<NewsListener::Lost>().reason));
}

TEST_F(GrpcGroupClientTest, RefusesAnotherProtocolVersion) {
  puppet_.facts().protocol_version = kWorkerProtocolVersion + 1;
  puppet_.Start();
  Connect();
  const auto lost = listener_.Await<NewsListener::Lost>();
  EXPECT_TRUE(absl::IsFailedPrecondition(lost.reason)) << lost.reason;
}

TEST_F(GrpcGroupClientTest, StopsAtOnceWhileNobodyAnswers) {
  puppet_.Start();
  puppet_.Kill();
  Connect();
  EXPECT_TRUE(absl::IsUnavailable(listener_.Await<NewsListener::Lost>().reason));
  client_->Stop();
}

TEST_F(GrpcGroupClientTest, RefusesGroupsItCannotServe) {
  EXPECT_TRUE(absl::IsInvalidArgument(MakeGrpcGroupClient({}).status()));
  GrpcGroupOptions options;
  options.addresses = {"a:1", "b:1"};
  EXPECT_TRUE(absl::IsUnimplemented(MakeGrpcGroupClient(options).status()));
}

TEST_F(GrpcGroupClientTest, FetchesTheTokenizerAndChecksItsDigest) {
  worker::v1::TokenizerBundle bundle;
  bundle.set_tokenizer_json("{\"model\": {}}");
  bundle.set_chat_template("{{ messages }}");
  const std::string bytes = bundle.SerializeAsString();
  puppet_.set_tokenizer(bytes, Sha256Hex(bytes));
  puppet_.Start();
  const auto fetched = FetchTokenizer(puppet_.address(), absl::Seconds(20));
  ASSERT_TRUE(fetched.ok()) << fetched.status();
  EXPECT_EQ(fetched->tokenizer_json, "{\"model\": {}}");
  EXPECT_EQ(fetched->chat_template, "{{ messages }}");
  puppet_.set_tokenizer(bytes, "00");
  EXPECT_TRUE(absl::IsDataLoss(FetchTokenizer(puppet_.address(), absl::Seconds(20)).status()));
  puppet_.set_tokenizer("", "");
  EXPECT_TRUE(absl::IsNotFound(FetchTokenizer(puppet_.address(), absl::Seconds(20)).status()));
}

TEST_F(GrpcGroupClientTest, CarriesAnEngineOverAKilledWorkerToTheSameTokens) {
  puppet_.Start();
  GrpcGroupOptions options;
  options.addresses = {puppet_.address()};
  std::vector<std::unique_ptr<GroupClient>> clients;
  clients.push_back(*MakeGrpcGroupClient(options));
  RealClock clock;
  RecordingProbe probe;
  auto sink = std::make_shared<RecordingSink>();
  RouterEngine engine({}, std::move(clients), &probe, &clock);
  engine.Start();
  probe.WaitUntilReady();
  std::vector<std::shared_ptr<Request>> requests;
  for (uint64_t key = 1; key <= 20; ++key) {
    requests.push_back(MakeRequest(key, 5 + key, 60, clock.Now()));
    ASSERT_TRUE(engine.Submit(requests.back(), sink).ok());
  }
  sink->WaitForTokens(requests[0]->key, 5);
  puppet_.Kill();
  puppet_.Start();
  for (const auto& request : requests) {
    const auto heard = sink->WaitForFinish(request->key);
    EXPECT_EQ(heard.tokens, UndisturbedStream(*request, 0, PuppetFacts().vocab_size).tokens);
  }
  engine.Stop();
}

TEST(ErrorDetailsTest, AreWhatTheWireReads) {
  const absl::Status retry =
      WithRetryDelay(absl::UnavailableError("wait"), absl::Milliseconds(1500));
  EXPECT_EQ(RetryAfterOf(retry), absl::Milliseconds(1500));
  EXPECT_EQ(RetryAfterOf(WithRetryDelay(absl::UnavailableError("wait"), absl::Seconds(300))),
            absl::Seconds(300));
  EXPECT_EQ(RetryAfterOf(WithRetryDelay(absl::UnavailableError("now"), -absl::Seconds(3))),
            absl::ZeroDuration());
  EXPECT_EQ(ReasonOf(WithErrorReason(absl::InternalError("lost"), "REQUEST_LOST_TWICE")),
            "REQUEST_LOST_TWICE");
}

}  // namespace
}  // namespace mili::router

// The worker's service over real gRPC on a free port, with FakeBackend behind the engine.
#include "worker/service/worker_service.h"

#include <chrono>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "common/base/check.h"
#include "common/base/sha256.h"
#include "common/wire/worker_wire.h"
#include "tests/support/fake_backend.h"
#include "worker/engine/engine.h"
#include "worker/service/server.h"

namespace mili::worker {
namespace {

using ::testing::HasSubstr;

constexpr SlotTable::Limits kLimits = {.num_slots = 4,
                                       .num_pages = 32,
                                       .page_size_tokens = 4,
                                       .max_num_batched_tokens = 16,
                                       .max_model_len = 40,
                                       .vocab_size = 1000};

using Stream = grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachResponse>;

class WorkerServiceTest : public ::testing::Test {
 protected:
  WorkerServiceTest() {
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start("127.0.0.1:0", &service_);
    MILI_CHECK(server.ok(), "a free port can be had");
    server_ = *std::move(server);
    stub_ = v1::Worker::NewStub(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  }
  ~WorkerServiceTest() override {
    engine_.Shutdown(absl::UnavailableError("end of the test"));
    server_->Shutdown(absl::Seconds(5));
  }

  void SetLoaded(std::string tokenizer_bytes = "") {
    Loaded loaded;
    loaded.facts.model_name = "fake";
    loaded.facts.num_pages = kLimits.num_pages;
    loaded.tokenizer_digest = Sha256Hex(tokenizer_bytes);
    loaded.tokenizer_bytes = std::move(tokenizer_bytes);
    loaded.engine = &engine_;
    load_state_.SetLoaded(std::move(loaded));
  }

  // A call of its own deadline, so that a bug ends the test instead of hanging it.
  std::unique_ptr<grpc::ClientContext> Context() {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    return context;
  }
  struct Attached {
    std::unique_ptr<grpc::ClientContext> context;
    std::unique_ptr<Stream> stream;
  };
  Attached Open(uint64_t epoch, uint32_t version = kWorkerProtocolVersion) {
    Attached attached;
    attached.context = Context();
    attached.stream = stub_->Attach(attached.context.get());
    v1::AttachRequest request;
    request.mutable_attach()->set_epoch(epoch);
    request.mutable_attach()->set_protocol_version(version);
    request.mutable_attach()->set_router("test");
    attached.stream->Write(request);
    return attached;
  }
  static v1::AttachRequest PlanOf(uint64_t epoch, uint64_t step_id) {
    StepPlan plan;
    plan.epoch = Epoch(epoch);
    plan.step_id = StepId(step_id);
    v1::AttachRequest request;
    *request.mutable_plan() = ToProto(plan);
    return request;
  }
  static v1::AttachRequest Prompt(uint64_t epoch, uint64_t step_id, uint32_t slot) {
    v1::AttachRequest request = PlanOf(epoch, step_id);
    v1::SeqStart* start = request.mutable_plan()->add_start();
    start->set_slot(slot);
    start->add_token_ids(10);
    start->set_num_prompt_tokens(1);
    start->add_pages(slot);
    start->mutable_sampling()->set_top_p(1);
    start->mutable_sampling()->set_repetition_penalty(1);
    start->mutable_sampling()->set_seed(7);
    v1::SeqStep* step = request.mutable_plan()->add_step();
    step->set_slot(slot);
    step->set_num_tokens(1);
    step->set_source(v1::TOKEN_SOURCE_KNOWN);
    step->set_sample(true);
    return request;
  }
  // The stream's end, without reading what is left.
  static grpc::Status End(Attached& attached) {
    attached.stream->WritesDone();
    v1::AttachResponse response;
    while (attached.stream->Read(&response)) {
    }
    return attached.stream->Finish();
  }

  FakeBackend backend_{{.vocab_size = kLimits.vocab_size,
                        .num_pages = kLimits.num_pages,
                        .page_size_tokens = kLimits.page_size_tokens,
                        .before_step = {},
                        .is_nan = {}}};
  Engine engine_{{.limits = kLimits, .on_step = {}}, &backend_};
  Logger log_{{.min_level = LogLevel::kError, .program = "test"}};
  LoadState load_state_;
  WorkerService service_{&load_state_, &log_};
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::Worker::Stub> stub_;
};

TEST_F(WorkerServiceTest, DescribeTellsProgressThenFacts) {
  load_state_.SetProgress(5, 100);
  const auto context = Context();
  const auto reader = stub_->Describe(context.get(), {});
  v1::DescribeResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.progress().loaded_bytes(), 5u);
  EXPECT_EQ(response.progress().total_bytes(), 100u);
  SetLoaded();
  while (reader->Read(&response) && !response.has_facts()) {
  }
  EXPECT_EQ(response.facts().model_name(), "fake");
  EXPECT_EQ(response.facts().last_epoch(), 0u);
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(WorkerServiceTest, DescribeEndsWithWhatLoadingEndedWith) {
  const auto context = Context();
  const auto reader = stub_->Describe(context.get(), {});
  v1::DescribeResponse response;
  ASSERT_TRUE(reader->Read(&response));  // the first sign of life
  load_state_.SetFailed(absl::NotFoundError("model.gguf: no such file"));
  while (reader->Read(&response)) {
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "model.gguf: no such file");
}

TEST_F(WorkerServiceTest, FactsTellTheLastEpoch) {
  SetLoaded();
  Attached attached = Open(41);
  v1::AttachResponse attach_response;
  ASSERT_TRUE(attached.stream->Read(&attach_response));
  const auto context = Context();
  const auto reader = stub_->Describe(context.get(), {});
  v1::DescribeResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.facts().last_epoch(), 41u);
  EXPECT_TRUE(End(attached).ok());
}

TEST_F(WorkerServiceTest, AnswersPlansOverAttach) {
  SetLoaded();
  Attached attached = Open(1);
  v1::AttachResponse response;
  ASSERT_TRUE(attached.stream->Read(&response));
  EXPECT_EQ(response.attached().epoch(), 1u);
  for (uint64_t step = 1; step <= 3; ++step) {
    attached.stream->Write(Prompt(1, step, static_cast<uint32_t>(step)));
  }
  for (uint64_t step = 1; step <= 3; ++step) {
    ASSERT_TRUE(attached.stream->Read(&response));
    EXPECT_EQ(response.result().step_id(), step);
    ASSERT_EQ(response.result().rows_size(), 1);
    EXPECT_EQ(response.result().rows(0).tokens(0).id(), FakeToken(7, 0, 1, 1000));
  }
  EXPECT_TRUE(End(attached).ok());
}

TEST_F(WorkerServiceTest, AttachWaitsForTheModelElsewhere) {
  Attached attached = Open(1);
  EXPECT_EQ(End(attached).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(WorkerServiceTest, RefusesASecondRouterAndAStaleEpoch) {
  SetLoaded();
  Attached first = Open(5);
  v1::AttachResponse response;
  ASSERT_TRUE(first.stream->Read(&response));
  Attached second = Open(6);
  const grpc::Status refused = End(second);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("another router"));
  EXPECT_TRUE(End(first).ok());
  Attached stale = Open(5);
  EXPECT_EQ(End(stale).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  Attached newer = Open(7);
  ASSERT_TRUE(newer.stream->Read(&response));
  EXPECT_EQ(response.attached().epoch(), 7u);
  EXPECT_TRUE(End(newer).ok());
}

TEST_F(WorkerServiceTest, ALostRouterLeavesItsPlaceToTheNext) {
  SetLoaded();
  Attached first = Open(1);
  v1::AttachResponse response;
  ASSERT_TRUE(first.stream->Read(&response));
  first.stream->Write(Prompt(1, 1, 0));
  first.context->TryCancel();
  first.stream->Finish();
  // The worker hears of the cancel at its own time: try until it has.
  for (;;) {
    Attached next = Open(2);
    if (next.stream->Read(&response)) {
      next.stream->Write(Prompt(2, 1, 0));  // the slot is empty again
      ASSERT_TRUE(next.stream->Read(&response));
      EXPECT_EQ(response.result().rows_size(), 1);
      EXPECT_TRUE(End(next).ok());
      break;
    }
    ASSERT_EQ(next.stream->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  }
}

TEST_F(WorkerServiceTest, RefusesAnotherProtocolVersion) {
  SetLoaded();
  Attached attached = Open(1, kWorkerProtocolVersion + 1);
  const grpc::Status status = End(attached);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("version"));
}

TEST_F(WorkerServiceTest, ABrokenPlanEndsTheStream) {
  SetLoaded();
  Attached attached = Open(1);
  v1::AttachResponse response;
  ASSERT_TRUE(attached.stream->Read(&response));
  v1::AttachRequest request = PlanOf(1, 1);
  request.mutable_plan()->add_release(3);
  attached.stream->Write(request);
  EXPECT_FALSE(attached.stream->Read(&response));
  const grpc::Status status = attached.stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("slot 3: released, but it is empty"));
}

TEST_F(WorkerServiceTest, RefusesMessagesOutOfTurn) {
  SetLoaded();
  const auto context = Context();
  const auto stream = stub_->Attach(context.get());
  stream->Write(PlanOf(1, 1));  // before attach
  v1::AttachResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  Attached twice = Open(1);
  ASSERT_TRUE(twice.stream->Read(&response));
  v1::AttachRequest again;
  again.mutable_attach()->set_epoch(2);
  twice.stream->Write(again);
  EXPECT_FALSE(twice.stream->Read(&response));
  EXPECT_EQ(twice.stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  Attached empty = Open(2);
  ASSERT_TRUE(empty.stream->Read(&response));
  empty.stream->Write(v1::AttachRequest());
  EXPECT_FALSE(empty.stream->Read(&response));
  EXPECT_EQ(empty.stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(WorkerServiceTest, APlanOfAnotherEpochEndsTheStream) {
  SetLoaded();
  Attached attached = Open(3);
  v1::AttachResponse response;
  ASSERT_TRUE(attached.stream->Read(&response));
  attached.stream->Write(PlanOf(2, 1));
  EXPECT_FALSE(attached.stream->Read(&response));
  EXPECT_EQ(attached.stream->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(WorkerServiceTest, ShutdownTellsTheRouterAttached) {
  SetLoaded();
  Attached attached = Open(1);
  v1::AttachResponse response;
  ASSERT_TRUE(attached.stream->Read(&response));
  engine_.Shutdown(absl::UnavailableError("the worker is shutting down"));
  EXPECT_FALSE(attached.stream->Read(&response));
  EXPECT_EQ(attached.stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  Attached later = Open(2);
  EXPECT_EQ(End(later).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(WorkerServiceTest, SendsTheTokenizerInPiecesWithItsDigest) {
  std::string bytes(2500000, 'x');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>('a' + i % 23);
  SetLoaded(bytes);
  const auto context = Context();
  const auto reader = stub_->GetTokenizer(context.get(), {});
  std::string got;
  std::string digest;
  for (v1::GetTokenizerResponse response; reader->Read(&response);) {
    EXPECT_LE(response.data().size(), 1u << 20);
    EXPECT_TRUE(digest.empty());
    got += response.data();
    digest = response.sha256();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(got, bytes);
  EXPECT_EQ(digest, Sha256Hex(bytes));
}

TEST_F(WorkerServiceTest, AModelWithoutATokenizerSaysSo) {
  SetLoaded();
  const auto context = Context();
  const auto reader = stub_->GetTokenizer(context.get(), {});
  v1::GetTokenizerResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(WorkerServiceTest, ATakenPortIsNamed) {
  WorkerService other(&load_state_, &log_);
  const auto second = Server::Start(server_->address(), &other);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()),
              testing::AllOf(HasSubstr(server_->address()), HasSubstr("in use")));
}

}  // namespace
}  // namespace mili::worker

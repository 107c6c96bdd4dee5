// The gRPC services over a loopback port, with a fake engine behind them.
#include <memory>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "common/wire/status_wire.h"
#include "router/api/grpc/control_service.h"
#include "router/api/grpc/grpc_server.h"
#include "router/api/grpc/inference_service.h"
#include "tests/router/api/api_fixture.h"

namespace mili::router {
namespace {

class GrpcTest : public testing::Test {
 protected:
  GrpcTest() {
    auto server = GrpcServer::Create({.host = "127.0.0.1",
                                      .port_flag = "--grpc-port",
                                      .services = {inference_.get(), control_.get()},
                                      .health_names = {"mili.v1.Inference"}});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    auto channel = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    stub_ = v1::Inference::NewStub(channel);
    control_stub_ = v1::Control::NewStub(channel);
  }

  absl::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response) {
    grpc::ClientContext context;
    return FromGrpc(stub_->Generate(&context, request, response));
  }

  struct Streamed {
    std::vector<v1::GenerateStreamResponse> messages;
    std::string text;
    absl::Status status;
  };
  Streamed GenerateStream(const v1::GenerateRequest& request) {
    Streamed streamed;
    grpc::ClientContext context;
    auto reader = stub_->GenerateStream(&context, request);
    v1::GenerateStreamResponse message;
    while (reader->Read(&message)) {
      streamed.text += message.chunk().text();
      streamed.messages.push_back(message);
    }
    streamed.status = FromGrpc(reader->Finish());
    return streamed;
  }

  ApiFixture api_;
  std::unique_ptr<v1::Inference::CallbackService> inference_ =
      MakeInferenceService(&api_.frontend, absl::Milliseconds(100));
  std::unique_ptr<v1::Control::CallbackService> control_ =
      MakeControlService(&api_.state, &api_.model);
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
  std::unique_ptr<v1::Control::Stub> control_stub_;
};

v1::GenerateRequest TextRequest(const std::string& text) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.set_max_tokens(5);
  return request;
}

TEST_F(GrpcTest, StreamsPromptInfoThenChunksThenFinishInfo) {
  const Streamed streamed = GenerateStream(TextRequest("abc"));
  ASSERT_TRUE(streamed.status.ok()) << streamed.status;
  EXPECT_EQ(streamed.text, "hello");
  EXPECT_EQ(streamed.messages.front().prompt_info().num_prompt_tokens(), 3u);
  EXPECT_EQ(streamed.messages.front().prompt_info().model(), "tiny");
  const v1::FinishInfo& finish = streamed.messages.back().finish_info();
  EXPECT_EQ(finish.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(finish.usage().completion_tokens(), 5u);
  EXPECT_EQ(finish.usage().prompt_tokens(), 3u);
}

TEST_F(GrpcTest, AnswersAllChoicesAtOnce) {
  v1::GenerateRequest request = TextRequest("abc");
  request.set_n(3);
  request.set_logprobs(2);
  request.set_return_token_ids(true);
  v1::GenerateResponse response;
  ASSERT_TRUE(Generate(request, &response).ok());
  ASSERT_EQ(response.choices_size(), 3);
  EXPECT_EQ(response.choices(2).text(), "hello");
  EXPECT_EQ(response.choices(2).token_ids_size(), 5);
  EXPECT_EQ(response.choices(2).logprobs(0).token(), "h");
  EXPECT_EQ(response.choices(2).logprobs(0).top_size(), 2);
  EXPECT_EQ(response.usage().completion_tokens(), 15u);
  EXPECT_EQ(response.prompt_info().token_ids_size(), 3);
}

TEST_F(GrpcTest, PromptLogprobsComeWithThePromptInfo) {
  v1::GenerateRequest request = TextRequest("abc");
  request.set_prompt_logprobs(0);
  request.set_max_tokens(0);
  const Streamed streamed = GenerateStream(request);
  ASSERT_TRUE(streamed.status.ok()) << streamed.status;
  EXPECT_EQ(streamed.messages.front().prompt_info().logprobs_size(), 2);
  EXPECT_EQ(streamed.text, "");
}

TEST_F(GrpcTest, StopStringEndsTheChoiceAndTellsTheEngine) {
  v1::GenerateRequest request = TextRequest("abc");
  request.set_max_tokens(11);
  request.add_stop("o w");
  const Streamed streamed = GenerateStream(request);
  ASSERT_TRUE(streamed.status.ok()) << streamed.status;
  EXPECT_EQ(streamed.text, "hell");
  const v1::FinishInfo& finish = streamed.messages.back().finish_info();
  EXPECT_EQ(finish.matched_stop_str(), "o w");
  EXPECT_EQ(finish.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(finish.usage().completion_tokens(), 7u);
  EXPECT_EQ(api_.engine.finished_choices().size(), 1u);
}

TEST_F(GrpcTest, BadFieldIsNamed) {
  v1::GenerateRequest request = TextRequest("abc");
  request.set_temperature(-1);
  const absl::Status status = GenerateStream(request).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(status), "temperature");
}

TEST_F(GrpcTest, ConstraintIsUnimplemented) {
  v1::GenerateRequest request = TextRequest("abc");
  request.set_regex("a+");
  v1::GenerateResponse response;
  const absl::Status status = Generate(request, &response);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("regex"));
}

TEST_F(GrpcTest, PromptThatCannotFitSaysTheNumbers) {
  const absl::Status status = GenerateStream(TextRequest(std::string(62, 'x'))).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(status), "context_length_exceeded");
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("maximum context length is 64 tokens"));
}

TEST_F(GrpcTest, ConversationFarOverTheContextIsRefusedBeforeItHasIds) {
  ServedModel model = FakeModel();
  model.encode_chat = [](const ChatPrompt&) -> absl::StatusOr<std::vector<TokenId>> {
    ADD_FAILURE() << "a list of ids is made";
    return std::vector<TokenId>(5006, 'x');
  };
  api_.model.Set(std::make_shared<const ServedModel>(std::move(model)));
  v1::GenerateRequest request;
  v1::Message* const turn = request.mutable_messages()->add_messages();
  turn->set_role("user");
  turn->set_content(std::string(5000, 'x'));
  const absl::Status status = GenerateStream(request).status;
  EXPECT_EQ(ReasonOf(status), "context_length_exceeded");
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("the prompt has 5006 tokens"));
}

TEST_F(GrpcTest, FullQueueSaysWhenToComeAgain) {
  api_.engine.admit_refusal = absl::ResourceExhaustedError("the queue is full");
  const absl::Status status = GenerateStream(TextRequest("abc")).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RetryAfterOf(status), absl::Seconds(2));
}

TEST_F(GrpcTest, RefusedSubmitFailsTheCall) {
  api_.engine.submit_refusal = absl::ResourceExhaustedError("mailbox full");
  EXPECT_EQ(GenerateStream(TextRequest("abc")).status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(GrpcTest, CancelReachesTheEngine) {
  api_.engine.hold = true;
  grpc::ClientContext context;
  auto reader = stub_->GenerateStream(&context, TextRequest("abc"));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  context.TryCancel();
  EXPECT_EQ(api_.engine.WaitForCancels(1)[0].first, key);
  EXPECT_EQ(FromGrpc(reader->Finish()).code(), absl::StatusCode::kCancelled);
}

TEST_F(GrpcTest, ReaderThatTakesNothingIsCutThoughAllIsSaid) {
  api_.engine.hold = true;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // or its window grows
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
  const auto stub = v1::Inference::NewStub(
      grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  auto reader = stub->GenerateStream(&context, TextRequest("abc"));
  const RequestKey key = api_.engine.WaitForRequest(0)->key;
  // More than flow control lets go out unread.
  for (int i = 0; i < 2; ++i) {
    TokenEvent event{.request = key};
    event.tokens.assign(200'000, SampledToken{.id = 'x'});
    if (i == 1) event.finish = Finish{.reason = FinishReason::kLength};
    api_.engine.Send(event);
  }
  EXPECT_EQ(api_.engine.WaitForCancels(1)[0].first, key);
  v1::GenerateStreamResponse message;
  while (reader->Read(&message)) EXPECT_FALSE(message.has_finish_info());
  EXPECT_EQ(FromGrpc(reader->Finish()).code(), absl::StatusCode::kCancelled);
}

TEST_F(GrpcTest, DeadlineOfTheCallIsTheRequests) {
  api_.engine.hold = true;
  grpc::ClientContext context;
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  context.set_deadline(absl::ToChronoTime(deadline));
  auto reader = stub_->GenerateStream(&context, TextRequest("abc"));
  const absl::Time seen = api_.engine.WaitForRequest(0)->deadline;
  EXPECT_LT(absl::AbsDuration(seen - deadline), absl::Seconds(2));
  context.TryCancel();
  reader->Finish();
}

// The server's end waits for every call: one that is never finished would hold it for ever.
TEST_F(GrpcTest, CallsCancelledAtAnyMomentEnd) {
  api_.engine.hold = true;
  size_t num_seen = 0;
  for (int i = 0; i < 500; ++i) {
    grpc::ClientContext context;
    auto reader = stub_->GenerateStream(&context, TextRequest("abc"));
    if (i % 4 != 0) api_.engine.WaitForRequest(num_seen++);  // the others may never come to it
    context.TryCancel();
    reader->Finish();
  }
}

TEST_F(GrpcTest, FailureInTheMiddleIsTheStatusOfTheStream) {
  api_.engine.hold = true;
  grpc::ClientContext context;
  auto reader = stub_->GenerateStream(&context, TextRequest("abc"));
  TokenEvent event{.request = api_.engine.WaitForRequest(0)->key};
  event.tokens.push_back({.id = 'x'});
  api_.engine.Send(event);
  v1::GenerateStreamResponse message;
  std::string text;
  while (text.empty() && reader->Read(&message)) text = message.chunk().text();
  EXPECT_EQ(text, "x");
  event.tokens.clear();
  event.finish = Finish{.status = absl::InternalError("lost twice")};
  api_.engine.Send(event);
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(FromGrpc(reader->Finish()), absl::InternalError("lost twice"));
}

TEST_F(GrpcTest, TokenizesAndDetokenizes) {
  v1::TokenizeRequest request;
  request.set_text("ab<|end|>");
  request.set_return_token_strs(true);
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Tokenize(&context, request, &response).ok());
  EXPECT_EQ(std::vector<uint32_t>(response.token_ids().begin(), response.token_ids().end()),
            (std::vector<uint32_t>{'a', 'b', FakeTokenizer::kEnd}));
  EXPECT_EQ(response.token_strs(2), "<|end|>");
  EXPECT_EQ(response.max_model_len(), 64u);
  v1::DetokenizeRequest back;
  *back.mutable_token_ids() = response.token_ids();
  v1::DetokenizeResponse text;
  grpc::ClientContext second;
  ASSERT_TRUE(stub_->Detokenize(&second, back, &text).ok());
  EXPECT_EQ(text.text(), "ab<|end|>");
}

TEST_F(GrpcTest, ControlTellsOfModelsLoadsAndRequests) {
  v1::ListModelsResponse models;
  grpc::ClientContext c1;
  ASSERT_TRUE(control_stub_->ListModels(&c1, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).model(), "tiny");
  EXPECT_TRUE(models.models(0).has_tokenizer());
  v1::GetLoadsResponse loads;
  grpc::ClientContext c2;
  ASSERT_TRUE(control_stub_->GetLoads(&c2, {}, &loads).ok());
  EXPECT_TRUE(loads.groups(0).is_ready());
  v1::GetServerInfoResponse info;
  grpc::ClientContext c3;
  ASSERT_TRUE(control_stub_->GetServerInfo(&c3, {}, &info).ok());
  EXPECT_EQ(info.settings().at("port"), "0");
  v1::GetRequestRequest unknown;
  unknown.set_request_id("nobody");
  v1::GetRequestResponse request;
  grpc::ClientContext c4;
  EXPECT_EQ(control_stub_->GetRequest(&c4, unknown, &request).error_code(),
            grpc::StatusCode::NOT_FOUND);
  v1::DrainResponse drain;
  grpc::ClientContext c5;
  ASSERT_TRUE(control_stub_->Drain(&c5, {}, &drain).ok());
  EXPECT_EQ(api_.num_drains, 1);
}

TEST_F(GrpcTest, AbortEndsWithReasonAbort) {
  api_.engine.hold = true;
  v1::GenerateRequest request = TextRequest("abc");
  request.set_request_id("mine");
  Streamed streamed;
  std::thread client([&] { streamed = GenerateStream(request); });
  api_.engine.WaitForRequest(0);
  v1::AbortRequest abort;
  abort.add_request_ids("mine");
  abort.add_request_ids("unknown");
  v1::AbortResponse aborted;
  grpc::ClientContext context;
  ASSERT_TRUE(control_stub_->Abort(&context, abort, &aborted).ok());
  client.join();
  EXPECT_EQ(aborted.num_aborted(), 1u);
  EXPECT_EQ(streamed.messages.back().finish_info().finish_reason(), v1::FINISH_REASON_ABORT);
}

TEST(GrpcServerTest, PortInUseIsOneLineWithTheRemedy) {
  auto first = GrpcServer::Create({.host = "127.0.0.1", .port_flag = "--grpc-port"});
  ASSERT_TRUE(first.ok());
  const std::string address = (*first)->address();
  const uint32_t port = std::stoul(address.substr(address.rfind(':') + 1));
  auto second = GrpcServer::Create({.host = "127.0.0.1", .port = port, .port_flag = "--grpc-port"});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), testing::HasSubstr("--grpc-port"));
}

TEST(GrpcWithoutModelTest, AnswersUnavailableUntilAWorkerCame) {
  ApiFixture api;
  api.model.Set(nullptr);
  api.engine.group.not_ready_reason = "worker 127.0.0.1:1: loading, 34 %";
  const auto call = api.frontend.Start({}, [] {});
  EXPECT_EQ(call.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(
      std::string(call.status().message()),
      testing::HasSubstr("no worker has been ready yet: worker 127.0.0.1:1: loading, 34 %"));
}

}  // namespace
}  // namespace mili::router

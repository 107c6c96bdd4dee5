#include "tests/router/dispatch/grpc_puppet.h"

#include <chrono>

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include "common/base/check.h"
#include "common/wire/status_wire.h"
#include "common/wire/worker_wire.h"
#include "tests/support/puppet_worker.h"

namespace mili::router::testing {

void GrpcPuppet::Start() {
  {
    MutexLock lock(mutex_);
    last_epoch_ = facts_.last_epoch;
  }
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddListeningPort(address(), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  MILI_CHECK(server_ != nullptr, "a loopback port can be bound");
}

void GrpcPuppet::Kill() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
}

std::string GrpcPuppet::last_router_name() {
  MutexLock lock(mutex_);
  return router_name_;
}

grpc::Status GrpcPuppet::Describe(grpc::ServerContext*, const worker::v1::DescribeRequest*,
                                  grpc::ServerWriter<worker::v1::DescribeResponse>* writer) {
  worker::v1::DescribeResponse response;
  response.mutable_progress()->set_loaded_bytes(1);
  response.mutable_progress()->set_total_bytes(2);
  writer->Write(response);
  WorkerFacts facts = facts_;
  {
    MutexLock lock(mutex_);
    facts.last_epoch = last_epoch_;
  }
  *response.mutable_facts() = ToProto(facts);
  writer->Write(response);
  return grpc::Status::OK;
}

grpc::Status GrpcPuppet::Attach(
    grpc::ServerContext*,
    grpc::ServerReaderWriter<worker::v1::AttachResponse, worker::v1::AttachRequest>* stream) {
  worker::v1::AttachRequest request;
  if (!stream->Read(&request) || !request.has_attach()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "the first message must be attach"};
  }
  const Epoch epoch(request.attach().epoch());
  {
    MutexLock lock(mutex_);
    router_name_ = request.attach().router();
    if (epoch <= last_epoch_) return {grpc::StatusCode::FAILED_PRECONDITION, "stale epoch"};
    last_epoch_ = epoch;
  }
  worker::v1::AttachResponse response;
  response.mutable_attached()->set_epoch(epoch.value);
  if (answers_attach_) stream->Write(response);
  mili::testing::PuppetWorker worker(facts_, epoch);
  while (stream->Read(&request)) {
    absl::StatusOr<StepPlan> plan = FromProto(request.plan());
    if (!plan.ok()) return ToGrpc(plan.status());
    absl::StatusOr<StepResult> result = worker.Execute(*plan);
    if (!result.ok()) return ToGrpc(result.status());
    *response.mutable_result() = ToProto(*result);
    stream->Write(response);
  }
  return grpc::Status::OK;
}

grpc::Status GrpcPuppet::GetTokenizer(
    grpc::ServerContext*, const worker::v1::GetTokenizerRequest*,
    grpc::ServerWriter<worker::v1::GetTokenizerResponse>* writer) {
  if (tokenizer_.empty()) return {grpc::StatusCode::NOT_FOUND, "the model has no tokenizer"};
  constexpr size_t kPieceBytes = 7;
  worker::v1::GetTokenizerResponse response;
  for (size_t begin = 0; begin < tokenizer_.size(); begin += kPieceBytes) {
    response.set_data(tokenizer_.substr(begin, kPieceBytes));
    if (begin + kPieceBytes >= tokenizer_.size()) response.set_sha256(sha256_);
    writer->Write(response);
  }
  return grpc::Status::OK;
}

}  // namespace mili::router::testing

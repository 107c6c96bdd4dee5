// WorkerService: mili.worker.v1.Worker over the callback API. Translates between the stream and the
// engine; computes nothing. Calls arrive on gRPC's threads and never block.
#pragma once

#include <grpcpp/support/server_callback.h>

#include "common/obs/log.h"
#include "mili/worker/v1/worker.grpc.pb.h"
#include "worker/service/load_state.h"

namespace mili::worker {

class WorkerService final : public v1::Worker::CallbackService {
 public:
  // Both outlive the server.
  WorkerService(LoadState* load_state, Logger* log) : load_state_(load_state), log_(log) {}

  grpc::ServerWriteReactor<v1::DescribeResponse>* Describe(
      grpc::CallbackServerContext* context, const v1::DescribeRequest* request) override;
  grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* Attach(
      grpc::CallbackServerContext* context) override;
  grpc::ServerWriteReactor<v1::GetTokenizerResponse>* GetTokenizer(
      grpc::CallbackServerContext* context, const v1::GetTokenizerRequest* request) override;

 private:
  LoadState* const load_state_;
  Logger* const log_;
};

// The reactors behind the methods; each deletes itself when its call is done.
grpc::ServerWriteReactor<v1::DescribeResponse>* NewDescribeReactor(LoadState* load_state);
grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* NewAttachReactor(
    LoadState* load_state, Logger* log, std::string peer);
grpc::ServerWriteReactor<v1::GetTokenizerResponse>* NewTokenizerReactor(LoadState* load_state);

}  // namespace mili::worker

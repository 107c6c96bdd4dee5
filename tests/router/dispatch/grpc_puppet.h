// GrpcPuppet: the Worker service over a PuppetWorker on a loopback port of its own. Attach runs on
// the synchronous API, one thread a call.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/server.h>

#include "common/base/mutex.h"
#include "common/core/worker_facts.h"
#include "mili/worker/v1/worker.grpc.pb.h"

namespace mili::router::testing {

class GrpcPuppet final : public worker::v1::Worker::Service {
 public:
  explicit GrpcPuppet(WorkerFacts facts) : facts_(std::move(facts)) {}
  ~GrpcPuppet() override { Kill(); }

  // Listens, on the same port as before if there was one. Its epochs begin anew.
  void Start();
  // Cuts every call.
  void Kill();
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Before Start:
  WorkerFacts& facts() { return facts_; }
  void set_answers_attach(bool answers) { answers_attach_ = answers; }
  void set_tokenizer(std::string bytes, std::string sha256) {
    tokenizer_ = std::move(bytes);
    sha256_ = std::move(sha256);
  }

  std::string last_router_name();

  grpc::Status Describe(grpc::ServerContext* context, const worker::v1::DescribeRequest* request,
                        grpc::ServerWriter<worker::v1::DescribeResponse>* writer) override;
  grpc::Status Attach(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<worker::v1::AttachResponse,
                                               worker::v1::AttachRequest>* stream) override;
  grpc::Status GetTokenizer(grpc::ServerContext* context,
                            const worker::v1::GetTokenizerRequest* request,
                            grpc::ServerWriter<worker::v1::GetTokenizerResponse>* writer) override;

 private:
  WorkerFacts facts_;
  bool answers_attach_ = true;
  std::string tokenizer_;
  std::string sha256_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;

  Mutex mutex_;
  std::string router_name_ MILI_GUARDED_BY(mutex_);
  Epoch last_epoch_ MILI_GUARDED_BY(mutex_);
};

}  // namespace mili::router::testing

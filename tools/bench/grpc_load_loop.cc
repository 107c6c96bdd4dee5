#include <optional>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <grpcpp/grpcpp.h>

#include "mili/v1/inference.grpc.pb.h"
#include "tools/bench/load_loop.h"

namespace mili::bench {
namespace {

// One answer under way. It is the tag of its own operations, of which there is always one.
class Stream {
 public:
  Stream(v1::Inference::Stub* stub, grpc::CompletionQueue* queue, const LoadRequest& load,
         LoadLoop::Done done)
      : done_(std::move(done)), clock_(absl::Now()) {
    v1::GenerateRequest request;
    request.mutable_token_ids()->mutable_ids()->Add(load.prompt_token_ids.begin(),
                                                    load.prompt_token_ids.end());
    request.set_max_tokens(load.max_tokens);
    request.set_temperature(0);
    request.set_ignore_eos(true);
    request.set_return_token_ids(true);
    reader_ = stub->AsyncGenerateStream(&context_, request, queue, this);
  }

  // The operation has ended; `ok` as gRPC means it. True once the answer is complete.
  bool Proceed(bool ok) {
    if (is_finishing_) return true;
    if (ok) {
      if (response_.has_chunk()) {
        clock_.OnTokens(static_cast<uint32_t>(response_.chunk().token_ids_size()), absl::Now());
      }
      response_.Clear();
      reader_->Read(&response_, this);
    } else {
      is_finishing_ = true;
      reader_->Finish(&status_, this);
    }
    return false;
  }

  void TellDone() {
    if (status_.ok()) return done_(clock_.Finish(absl::Now()));
    done_(absl::UnavailableError(absl::StrCat("gRPC code ", static_cast<int>(status_.error_code()),
                                              ": ", status_.error_message())));
  }

 private:
  const LoadLoop::Done done_;
  SampleClock clock_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateStreamResponse>> reader_;
  v1::GenerateStreamResponse response_;
  bool is_finishing_ = false;
  grpc::Status status_;
};

class GrpcLoadLoop final : public LoadLoop {
 public:
  GrpcLoadLoop(const std::string& address, uint32_t num_clients) {
    grpc::ChannelArguments arguments;
    // Every client a connection of its own, as separate users have.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    for (uint32_t i = 0; i < num_clients; ++i) {
      stubs_.push_back(v1::Inference::NewStub(
          grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)));
    }
  }
  ~GrpcLoadLoop() override {
    queue_.Shutdown();
    void* tag = nullptr;
    for (bool ok = false; queue_.Next(&tag, &ok);) {
    }
  }

  void Start(uint32_t client_idx, const LoadRequest& request, Done done) override {
    new Stream(stubs_[client_idx].get(), &queue_, request, std::move(done));  // Run owns it
    ++num_under_way_;
  }

  void Run() override {
    void* tag = nullptr;
    for (bool ok = false; num_under_way_ > 0 && queue_.Next(&tag, &ok);) {
      auto* const stream = static_cast<Stream*>(tag);
      if (!stream->Proceed(ok)) continue;
      const std::unique_ptr<Stream> ended(stream);
      --num_under_way_;
      ended->TellDone();
    }
  }

 private:
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<v1::Inference::Stub>> stubs_;
  uint32_t num_under_way_ = 0;
};

}  // namespace

std::unique_ptr<LoadLoop> NewGrpcLoadLoop(const std::string& address, uint32_t num_clients) {
  return std::make_unique<GrpcLoadLoop>(address, num_clients);
}

}  // namespace mili::bench

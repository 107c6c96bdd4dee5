#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <grpcpp/grpcpp.h>

#include "mili/v1/inference.grpc.pb.h"
#include "tools/bench/load_client.h"

namespace mili::bench {
namespace {

class GrpcLoadClient final : public LoadClient {
 public:
  explicit GrpcLoadClient(const std::string& address) {
    grpc::ChannelArguments arguments;
    // Every client a connection of its own, as separate users have.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = v1::Inference::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }

  absl::StatusOr<LoadSample> Run(const LoadRequest& load) override {
    v1::GenerateRequest request;
    request.mutable_token_ids()->mutable_ids()->Add(load.prompt_token_ids.begin(),
                                                    load.prompt_token_ids.end());
    request.set_max_tokens(load.max_tokens);
    request.set_temperature(0);
    request.set_ignore_eos(true);
    request.set_return_token_ids(true);
    grpc::ClientContext context;
    SampleClock clock(absl::Now());
    auto reader = stub_->GenerateStream(&context, request);
    v1::GenerateStreamResponse response;
    while (reader->Read(&response)) {
      if (response.has_chunk()) {
        clock.OnTokens(static_cast<uint32_t>(response.chunk().token_ids_size()), absl::Now());
      }
    }
    const grpc::Status status = reader->Finish();
    if (!status.ok()) {
      return absl::UnavailableError(absl::StrCat(
          "gRPC code ", static_cast<int>(status.error_code()), ": ", status.error_message()));
    }
    return clock.Finish(absl::Now());
  }

 private:
  std::unique_ptr<v1::Inference::Stub> stub_;
};

}  // namespace

std::unique_ptr<LoadClient> NewGrpcLoadClient(const std::string& address) {
  return std::make_unique<GrpcLoadClient>(address);
}

}  // namespace mili::bench

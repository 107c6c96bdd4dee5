#include "tools/mili/client.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <grpcpp/create_channel.h>

#include "common/base/mutex.h"
#include "common/wire/status_wire.h"
#include "mili/v1/inference.grpc.pb.h"

namespace mili {
namespace {

constexpr int kMaxMessageBytes = 64 << 20;

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  // The server is named by its address; a proxy of the environment is not meant for it.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// "Connection refused" out of gRPC's chain of causes.
std::string LastCause(const std::string& message) {
  const size_t colon = message.rfind(": ");
  return colon == std::string::npos ? message : message.substr(colon + 2);
}

absl::Status InPeoplesWords(const grpc::Status& status, const std::string& address) {
  if (status.ok()) return absl::OkStatus();
  const std::string& text = status.error_message();
  const bool has_no_server =
      status.error_code() == grpc::StatusCode::UNAVAILABLE &&
      (absl::StartsWith(text, "failed to connect") || absl::StrContains(text, "DNS resolution") ||
       absl::StrContains(text, "Failed to connect") || absl::StrContains(text, "empty address"));
  if (has_no_server) {
    return absl::UnavailableError(absl::StrCat(
        "no server answers at ", address, " (", LastCause(text),
        "); start one with 'mili serve MODEL', or give MODEL here in place of --server"));
  }
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE &&
      (absl::StrContains(text, "Socket closed") || absl::StrContains(text, "Connection reset") ||
       absl::StrContains(text, "GOAWAY"))) {
    return absl::UnavailableError(
        absl::StrCat("the server at ", address, " ended while it answered; ask again"));
  }
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && text.empty()) {
    return absl::UnimplementedError(absl::StrCat(
        address, " answers gRPC but is no MILI server; is it the port of --grpc-port?"));
  }
  absl::Status own = FromGrpc(status);
  if (const auto retry_after = RetryAfterOf(own)) {
    return absl::Status(own.code(), absl::StrCat(own.message(), " (come again in ",
                                                 absl::FormatDuration(*retry_after), ")"));
  }
  return own;
}

}  // namespace

struct Client::State {
  explicit State(const std::string& server_address)
      : address(server_address), stub(v1::Inference::NewStub(Connect(server_address))) {}

  // Runs one call that Cancel can end.
  template <typename Call>
  absl::Status Run(Call&& call) {
    grpc::ClientContext context;
    {
      MutexLock lock(mutex);
      if (is_cancelled) context.TryCancel();
      running = &context;
    }
    const grpc::Status status = call(context);
    bool was_cancelled = false;
    {
      MutexLock lock(mutex);
      running = nullptr;
      was_cancelled = std::exchange(is_cancelled, false);
    }
    if (was_cancelled && !status.ok()) return absl::CancelledError("interrupted");
    return InPeoplesWords(status, address);
  }

  const std::string address;
  const std::unique_ptr<v1::Inference::Stub> stub;
  Mutex mutex;
  grpc::ClientContext* running MILI_GUARDED_BY(mutex) = nullptr;
  bool is_cancelled MILI_GUARDED_BY(mutex) = false;
};

Client::Client(const std::string& address) : state_(std::make_unique<State>(address)) {}
Client::~Client() = default;

absl::Status Client::Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response) {
  return state_->Run([&](grpc::ClientContext& context) {
    return state_->stub->Generate(&context, request, response);
  });
}

absl::Status Client::Stream(
    const v1::GenerateRequest& request,
    const std::function<void(const v1::GenerateStreamResponse&)>& on_message) {
  return state_->Run([&](grpc::ClientContext& context) {
    const auto reader = state_->stub->GenerateStream(&context, request);
    v1::GenerateStreamResponse message;
    while (reader->Read(&message)) on_message(message);
    return reader->Finish();
  });
}

absl::Status Client::Tokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response) {
  return state_->Run([&](grpc::ClientContext& context) {
    return state_->stub->Tokenize(&context, request, response);
  });
}

absl::Status Client::Detokenize(const v1::DetokenizeRequest& request,
                                v1::DetokenizeResponse* response) {
  return state_->Run([&](grpc::ClientContext& context) {
    return state_->stub->Detokenize(&context, request, response);
  });
}

void Client::Cancel() {
  MutexLock lock(state_->mutex);
  state_->is_cancelled = true;
  if (state_->running != nullptr) state_->running->TryCancel();
}

void Client::ForgetCancel() {
  MutexLock lock(state_->mutex);
  state_->is_cancelled = false;
}

}  // namespace mili

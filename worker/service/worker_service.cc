#include "worker/service/worker_service.h"

#include <algorithm>

#include "common/wire/status_wire.h"

namespace mili::worker {
namespace {

constexpr size_t kTokenizerPieceBytes = 1 << 20;

class TokenizerReactor final : public grpc::ServerWriteReactor<v1::GetTokenizerResponse> {
 public:
  explicit TokenizerReactor(LoadState::Snapshot state) : loaded_(std::move(state.loaded)) {
    if (!state.failure.ok()) {
      Finish(ToGrpc(state.failure));
    } else if (loaded_ == nullptr) {
      Finish(ToGrpc(absl::UnavailableError("the model is still being loaded")));
    } else if (loaded_->tokenizer_bytes.empty()) {
      Finish(ToGrpc(absl::NotFoundError("the model comes without a tokenizer")));
    } else {
      WriteNext();
    }
  }
  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(ToGrpc(absl::CancelledError("the caller is gone")));
    } else if (next_byte_ == loaded_->tokenizer_bytes.size()) {
      Finish(grpc::Status::OK);
    } else {
      WriteNext();
    }
  }
  void OnDone() override { delete this; }

 private:
  void WriteNext() {
    const std::string& bytes = loaded_->tokenizer_bytes;
    const size_t count = std::min(kTokenizerPieceBytes, bytes.size() - next_byte_);
    piece_.set_data(bytes.substr(next_byte_, count));
    next_byte_ += count;
    if (next_byte_ == bytes.size()) piece_.set_sha256(loaded_->tokenizer_digest);
    StartWrite(&piece_);
  }

  const std::shared_ptr<const Loaded> loaded_;
  size_t next_byte_ = 0;
  v1::GetTokenizerResponse piece_;
};

}  // namespace

grpc::ServerWriteReactor<v1::GetTokenizerResponse>* NewTokenizerReactor(LoadState* load_state) {
  return new TokenizerReactor(load_state->Get());
}

grpc::ServerWriteReactor<v1::DescribeResponse>* WorkerService::Describe(
    grpc::CallbackServerContext*, const v1::DescribeRequest*) {
  return NewDescribeReactor(load_state_);
}

grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* WorkerService::Attach(
    grpc::CallbackServerContext* context) {
  return NewAttachReactor(load_state_, log_, context->peer());
}

grpc::ServerWriteReactor<v1::GetTokenizerResponse>* WorkerService::GetTokenizer(
    grpc::CallbackServerContext*, const v1::GetTokenizerRequest*) {
  return NewTokenizerReactor(load_state_);
}

}  // namespace mili::worker

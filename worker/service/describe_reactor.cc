// Describe: progress while loading, then facts or the error that loading ended with.
#include "common/base/mutex.h"
#include "common/wire/status_wire.h"
#include "common/wire/worker_wire.h"
#include "worker/engine/engine.h"
#include "worker/service/worker_service.h"

namespace mili::worker {
namespace {

// News that comes while a write is under way is folded into the next one.
class DescribeReactor final : public grpc::ServerWriteReactor<v1::DescribeResponse> {
 public:
  explicit DescribeReactor(LoadState* load_state) : load_state_(load_state) {
    watcher_ = load_state_->Watch([this] { Advance(); });
    Advance();
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(mutex_);
      is_writing_ = false;
      is_gone_ = is_gone_ || !ok;
    }
    Advance();
  }
  void OnCancel() override {
    {
      MutexLock lock(mutex_);
      is_gone_ = true;
    }
    Advance();
  }
  void OnDone() override {
    load_state_->Unwatch(watcher_);
    delete this;
  }

 private:
  // Writes or ends, whatever is next.
  void Advance() {
    MutexLock lock(mutex_);
    if (is_writing_ || is_finished_) return;
    const LoadState::Snapshot state = load_state_->Get();
    if (is_gone_) return End(absl::CancelledError("the caller is gone"));
    if (has_sent_facts_) return End(absl::OkStatus());
    if (!state.failure.ok()) return End(state.failure);
    if (state.loaded == nullptr && state.version == sent_version_) return;
    response_.Clear();
    if (state.loaded != nullptr) {
      WorkerFacts facts = state.loaded->facts;
      facts.last_epoch = state.loaded->engine->last_epoch();
      *response_.mutable_facts() = ToProto(facts);
      has_sent_facts_ = true;
    } else {
      response_.mutable_progress()->set_loaded_bytes(state.loaded_bytes);
      response_.mutable_progress()->set_total_bytes(state.total_bytes);
      sent_version_ = state.version;
    }
    is_writing_ = true;
    StartWrite(&response_);
  }
  void End(const absl::Status& status) MILI_REQUIRES(mutex_) {
    is_finished_ = true;
    Finish(ToGrpc(status));
  }

  LoadState* const load_state_;
  uint64_t watcher_ = 0;
  Mutex mutex_;
  v1::DescribeResponse response_;
  uint64_t sent_version_ = UINT64_MAX;
  bool is_writing_ = false;
  bool has_sent_facts_ = false;
  bool is_finished_ = false;
  bool is_gone_ = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::DescribeResponse>* NewDescribeReactor(LoadState* load_state) {
  return new DescribeReactor(load_state);
}

}  // namespace mili::worker

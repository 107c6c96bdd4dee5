// Attach: one router's epoch on this worker. The reactor lives as long as gRPC says; the engine
// holds a Session, which forgets the reactor when the stream has ended.
#include <deque>
#include <string>
#include <utility>

#include "common/base/mutex.h"
#include "common/wire/status_wire.h"
#include "common/wire/worker_wire.h"
#include "worker/engine/engine.h"
#include "worker/service/worker_service.h"

namespace mili::worker {
namespace {

using Reactor = grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>;

// A router keeps a handful of steps in flight; this many unread is a broken peer.
constexpr size_t kMaxQueuedResponses = 1024;

// A router has a step computed and one waiting; the plan after them answers a result. So there is
// nothing to read before that result is out, and a read that waits when its message comes costs a
// window update of its own, which wakes the router once more.
constexpr int kMaxUnanswered = 2;

class AttachReactor final : public Reactor {
 public:
  AttachReactor(LoadState* load_state, Logger* log, std::string peer)
      : load_state_(load_state),
        log_(log),
        peer_(std::move(peer)),
        session_(std::make_shared<Session>(this)) {
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    absl::Status status = ok ? Handle() : absl::OkStatus();
    if (!ok || !status.ok()) return End(std::move(status));
    {
      MutexLock lock(mutex_);
      if (num_unanswered_ >= kMaxUnanswered) {
        is_read_due_ = true;
        return;
      }
    }
    StartRead(&request_);
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    is_writing_ = false;
    if (!ok) is_ending_ = true;
    Advance();
  }
  void OnCancel() override { End(absl::CancelledError("the router is gone")); }
  void OnDone() override {
    Leave();
    session_->Forget();
    delete this;
  }

 private:
  class Session final : public ResultSink {
   public:
    explicit Session(AttachReactor* reactor) : reactor_(reactor) {}
    void OnResult(StepResult result) override {
      v1::AttachResponse response;
      *response.mutable_result() = ToProto(result);
      MutexLock lock(mutex_);
      if (reactor_ != nullptr) reactor_->Write(std::move(response));
    }
    void OnRefused(absl::Status status) override {
      MutexLock lock(mutex_);
      if (reactor_ != nullptr) reactor_->End(std::move(status));
    }
    void Forget() {
      MutexLock lock(mutex_);
      reactor_ = nullptr;
    }

   private:
    Mutex mutex_;
    AttachReactor* reactor_ MILI_GUARDED_BY(mutex_);
  };

  // Reads are one at a time, so this needs no lock of its own.
  absl::Status Handle() {
    if (request_.has_plan()) {
      if (epoch_ == Epoch()) {
        return absl::InvalidArgumentError("the first message is a plan; expected attach");
      }
      absl::StatusOr<StepPlan> plan = FromProto(request_.plan());
      if (!plan.ok()) return plan.status();
      {
        MutexLock lock(mutex_);
        ++num_unanswered_;
      }
      return engine_->Post(*std::move(plan));
    }
    if (!request_.has_attach()) {
      return absl::InvalidArgumentError("a message is empty; expected attach or a plan");
    }
    if (epoch_ != Epoch()) return absl::InvalidArgumentError("attach came twice on one stream");
    return Open(request_.attach());
  }

  absl::Status Open(const v1::AttachHello& hello) {
    if (hello.protocol_version() != kWorkerProtocolVersion) {
      return absl::FailedPreconditionError(
          "the router speaks version " + std::to_string(hello.protocol_version()) +
          " of the worker contract, this worker version " + std::to_string(kWorkerProtocolVersion));
    }
    const LoadState::Snapshot state = load_state_->Get();
    if (!state.failure.ok()) return state.failure;
    if (state.loaded == nullptr) {
      return absl::UnavailableError("the model is still being loaded");
    }
    Engine* engine = state.loaded->engine;
    const Epoch epoch(hello.epoch());
    if (absl::Status status = engine->Attach(epoch, session_); !status.ok()) return status;
    {
      MutexLock lock(mutex_);
      engine_ = engine;
      epoch_ = epoch;
    }
    log_->Info(
        "router attached",
        {{"epoch", std::to_string(epoch.value)}, {"router", hello.router()}, {"peer", peer_}});
    v1::AttachResponse response;
    response.mutable_attached()->set_epoch(epoch.value);
    Write(std::move(response));
    return absl::OkStatus();
  }

  void Write(v1::AttachResponse response) {
    {
      MutexLock lock(mutex_);
      if (is_ending_) return;
      if (responses_.size() < kMaxQueuedResponses) {
        if (response.has_result()) --num_unanswered_;
        responses_.push_back(std::move(response));
        Advance();
        if (is_read_due_ && num_unanswered_ < kMaxUnanswered) {
          is_read_due_ = false;
          StartRead(&request_);
        }
        return;
      }
    }
    End(absl::ResourceExhaustedError("the router does not read its results"));
  }

  // Ends the stream once what is being written is out.
  void End(absl::Status status) {
    Leave();
    MutexLock lock(mutex_);
    if (is_ending_) return;
    is_ending_ = true;
    status_ = std::move(status);
    if (!status_.ok() && epoch_ != Epoch()) {
      log_->Warning("stream ended", {{"epoch", std::to_string(epoch_.value)},
                                     {"reason", std::string(status_.message())}});
    }
    Advance();
  }

  void Leave() {
    {
      MutexLock lock(mutex_);
      if (epoch_ == Epoch() || has_left_) return;
      has_left_ = true;
    }
    engine_->Detach(epoch_);  // neither changes once set
    log_->Info("router left", {{"epoch", std::to_string(epoch_.value)}});
  }

  void Advance() MILI_REQUIRES(mutex_) {
    if (is_writing_ || is_finished_) return;
    if (is_ending_) {
      is_finished_ = true;
      Finish(ToGrpc(status_));
      return;
    }
    if (responses_.empty()) return;
    response_ = std::move(responses_.front());
    responses_.pop_front();
    is_writing_ = true;
    StartWrite(&response_);
  }

  LoadState* const load_state_;
  Logger* const log_;
  const std::string peer_;
  const std::shared_ptr<Session> session_;
  v1::AttachRequest request_;

  Mutex mutex_;
  Engine* engine_ = nullptr;
  Epoch epoch_;
  std::deque<v1::AttachResponse> responses_;
  v1::AttachResponse response_;  // the one being written
  bool is_writing_ = false;
  int num_unanswered_ = 0;    // plans read whose result is not yet written
  bool is_read_due_ = false;  // as soon as there are fewer of them
  bool has_left_ = false;
  bool is_ending_ = false;
  bool is_finished_ = false;
  absl::Status status_;
};

}  // namespace

Reactor* NewAttachReactor(LoadState* load_state, Logger* log, std::string peer) {
  return new AttachReactor(load_state, log, std::move(peer));
}

}  // namespace mili::worker

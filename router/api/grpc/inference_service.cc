#include "router/api/grpc/inference_service.h"

#include <utility>

#include <grpcpp/alarm.h>

#include "common/base/mutex.h"
#include "common/wire/status_wire.h"
#include "router/api/grpc/text_calls.h"
#include "router/api/pb_spec.h"

namespace mili::router {
namespace {

// Text of one message at most: gRPC writes a message whole, so this bounds what is in flight.
constexpr size_t kMaxMessageBytes = 256 * 1024;
GenerateSpec WithCallContext(GenerateSpec spec, const grpc::CallbackServerContext& context,
                             bool stream) {
  spec.stream = stream;
  const auto deadline = context.deadline();
  if (deadline != std::chrono::system_clock::time_point::max()) {
    spec.deadline = absl::FromChrono(deadline);
  }
  return spec;
}

// One GenerateStream call. Shared with the Call's wake function, so that news arriving late find it
// alive; gRPC's own share ends in OnDone.
class StreamReactor final : public grpc::ServerWriteReactor<v1::GenerateStreamResponse>,
                            public std::enable_shared_from_this<StreamReactor> {
 public:
  StreamReactor(Frontend* frontend, absl::Duration max_stall, grpc::CallbackServerContext* context)
      : frontend_(frontend), max_stall_(max_stall), context_(context) {}

  void Begin(v1::GenerateRequest request) {
    self_ = shared_from_this();
    MutexLock lock(mutex_);
    absl::StatusOr<GenerateSpec> spec = SpecFromProto(std::move(request));
    if (!spec.ok()) return FinishLocked(spec.status());
    auto call = frontend_->Start(WithCallContext(*std::move(spec), *context_, /*stream=*/true),
                                 [weak = weak_from_this()] {
                                   if (auto self = weak.lock()) self->OnNews();
                                 });
    if (!call.ok()) return FinishLocked(call.status());
    call_ = *std::move(call);
    if (cancelled_) Cut();
  }

  void OnNews() {
    MutexLock lock(mutex_);
    // News that find a write under way are the sign of a slow reader; the last news always are.
    if (writing_ && stall_alarm_ == nullptr) WatchWrite();
    WriteNext();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!ok || cancelled_) return Cut();
    WriteNext();
  }

  void OnCancel() override {
    MutexLock lock(mutex_);
    cancelled_ = true;
    if (call_ != nullptr) Cut();
  }

  void OnDone() override { self_.reset(); }

 private:
  // The messages of the next news, in order.
  void Enqueue(const Call::News& news) MILI_REQUIRES(mutex_) {
    if (news.started && !prompt_sent_) {
      prompt_sent_ = true;
      *queue_.emplace_back().mutable_prompt_info() = PromptInfoOf(*call_);
    }
    for (const ChoiceDelta& delta : news.deltas) {
      if (!delta.text.empty() || !delta.tokens.empty()) {
        *queue_.emplace_back().mutable_chunk() = ChunkOf(delta, *call_);
      }
      if (delta.end.has_value()) {
        *queue_.emplace_back().mutable_finish_info() = FinishInfoOf(delta, *call_);
      }
    }
  }

  // One write in flight: news that come meanwhile wait in the Call and coalesce.
  void WriteNext() MILI_REQUIRES(mutex_) {
    if (writing_ || finished_ || call_ == nullptr) return;
    if (queue_.empty()) {
      const Call::News news = call_->Take(kMaxMessageBytes);
      Enqueue(news);
      if (news.done && queue_.empty()) return FinishLocked(news.status);
      if (queue_.empty()) return;
    }
    writing_ = true;
    write_started_ = absl::Now();
    message_ = std::move(queue_.front());
    queue_.pop_front();
    StartWrite(&message_);
  }

  // Looks again when the write under way has lasted too long.
  void WatchWrite() MILI_REQUIRES(mutex_) {
    stall_alarm_ = std::make_unique<grpc::Alarm>();
    stall_alarm_->Set(absl::ToChronoTime(write_started_ + max_stall_),
                      [weak = weak_from_this()](bool is_due) {
                        if (auto self = weak.lock(); is_due && self != nullptr) self->CheckWrite();
                      });
  }
  void CheckWrite() {
    MutexLock lock(mutex_);
    stall_alarm_ = nullptr;
    if (!writing_ || finished_) return;
    if (absl::Now() - write_started_ < max_stall_) return WatchWrite();
    context_->TryCancel();
  }

  // Nobody listens any more. A write in flight is let end first.
  void Cut() MILI_REQUIRES(mutex_) {
    frontend_->Abandon(call_);
    if (!writing_) FinishLocked(absl::CancelledError("the call was cancelled"));
  }

  void FinishLocked(const absl::Status& status) MILI_REQUIRES(mutex_) {
    if (std::exchange(finished_, true)) return;
    Finish(ToGrpc(status));
  }

  Frontend* const frontend_;
  const absl::Duration max_stall_;
  grpc::CallbackServerContext* const context_;  // gRPC's, alive until OnDone
  std::shared_ptr<StreamReactor> self_;
  Mutex mutex_;
  std::shared_ptr<Call> call_ MILI_GUARDED_BY(mutex_);
  std::deque<v1::GenerateStreamResponse> queue_ MILI_GUARDED_BY(mutex_);
  v1::GenerateStreamResponse message_;  // the one being written
  bool prompt_sent_ MILI_GUARDED_BY(mutex_) = false;
  bool writing_ MILI_GUARDED_BY(mutex_) = false;
  absl::Time write_started_ MILI_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Alarm> stall_alarm_ MILI_GUARDED_BY(mutex_);  // null: nobody looks
  bool finished_ MILI_GUARDED_BY(mutex_) = false;
  bool cancelled_ MILI_GUARDED_BY(mutex_) = false;
};

// One Generate call: as above, answered once at the end.
class UnaryReactor final : public grpc::ServerUnaryReactor,
                           public std::enable_shared_from_this<UnaryReactor> {
 public:
  UnaryReactor(Frontend* frontend, v1::GenerateResponse* response)
      : frontend_(frontend), response_(response) {}

  void Begin(const grpc::CallbackServerContext& context, v1::GenerateRequest request) {
    self_ = shared_from_this();
    MutexLock lock(mutex_);
    absl::StatusOr<GenerateSpec> spec = SpecFromProto(std::move(request));
    if (!spec.ok()) return FinishLocked(spec.status());
    auto call = frontend_->Start(WithCallContext(*std::move(spec), context, /*stream=*/false),
                                 [weak = weak_from_this()] {
                                   if (auto self = weak.lock()) self->OnNews();
                                 });
    if (!call.ok()) return FinishLocked(call.status());
    call_ = *std::move(call);
    if (cancelled_) Cut();
  }

  void OnNews() {
    MutexLock lock(mutex_);
    if (finished_ || call_ == nullptr) return;
    Call::News news = call_->Take(std::numeric_limits<size_t>::max());
    for (ChoiceDelta& delta : news.deltas) deltas_.push_back(std::move(delta));
    if (!news.done) return;
    if (news.status.ok()) Fill();
    FinishLocked(news.status);
  }

  void OnCancel() override {
    MutexLock lock(mutex_);
    cancelled_ = true;
    if (call_ != nullptr) Cut();
  }

  void OnDone() override { self_.reset(); }

 private:
  void Fill() MILI_REQUIRES(mutex_) {
    *response_->mutable_prompt_info() = PromptInfoOf(*call_);
    for (uint32_t i = 0; i < call_->spec().num_choices; ++i) {
      response_->add_choices()->set_index(i);
    }
    v1::Usage* usage = response_->mutable_usage();
    usage->set_prompt_tokens(response_->prompt_info().num_prompt_tokens());
    for (const ChoiceDelta& delta : deltas_) {
      v1::Choice* choice = response_->mutable_choices(static_cast<int>(delta.choice_idx));
      const v1::Chunk chunk = ChunkOf(delta, *call_);
      choice->mutable_text()->append(chunk.text());
      choice->mutable_token_ids()->MergeFrom(chunk.token_ids());
      choice->mutable_logprobs()->MergeFrom(chunk.logprobs());
      if (!delta.end.has_value()) continue;
      *choice->mutable_finish_info() = FinishInfoOf(delta, *call_);
      usage->set_completion_tokens(usage->completion_tokens() + delta.end->num_output_tokens);
      usage->set_cached_tokens(usage->cached_tokens() + delta.end->num_cached_tokens);
    }
  }

  void Cut() MILI_REQUIRES(mutex_) {
    frontend_->Abandon(call_);
    FinishLocked(absl::CancelledError("the call was cancelled"));
  }

  void FinishLocked(const absl::Status& status) MILI_REQUIRES(mutex_) {
    if (std::exchange(finished_, true)) return;
    Finish(ToGrpc(status));
  }

  Frontend* const frontend_;
  v1::GenerateResponse* const response_;  // gRPC's, alive until OnDone
  std::shared_ptr<UnaryReactor> self_;
  Mutex mutex_;
  std::shared_ptr<Call> call_ MILI_GUARDED_BY(mutex_);
  std::vector<ChoiceDelta> deltas_ MILI_GUARDED_BY(mutex_);
  bool finished_ MILI_GUARDED_BY(mutex_) = false;
  bool cancelled_ MILI_GUARDED_BY(mutex_) = false;
};

class InferenceService final : public v1::Inference::CallbackService {
 public:
  InferenceService(Frontend* frontend, absl::Duration max_stall)
      : frontend_(frontend), max_stall_(max_stall) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override {
    auto reactor = std::make_shared<UnaryReactor>(frontend_, response);
    reactor->Begin(*context, *request);
    return reactor.get();
  }

  grpc::ServerWriteReactor<v1::GenerateStreamResponse>* GenerateStream(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override {
    auto reactor = std::make_shared<StreamReactor>(frontend_, max_stall_, context);
    reactor->Begin(*request);
    return reactor.get();
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override {
    return StartTokenize(frontend_, context, *request, response);
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override {
    return StartDetokenize(frontend_, context, *request, response);
  }

 private:
  Frontend* const frontend_;
  const absl::Duration max_stall_;
};

}  // namespace

std::unique_ptr<v1::Inference::CallbackService> MakeInferenceService(Frontend* frontend,
                                                                     absl::Duration max_stall) {
  return std::make_unique<InferenceService>(frontend, max_stall);
}

}  // namespace mili::router

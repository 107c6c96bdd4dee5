#include "router/dispatch/grpc_group_client.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "common/base/mailbox.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/wire/status_wire.h"
#include "common/wire/worker_wire.h"
#include "mili/worker/v1/worker.grpc.pb.h"
#include "router/dispatch/channel.h"
#include "router/dispatch/worker_stream.h"

namespace mili::router {
namespace {

// What wakes the client's thread.
struct Signal {
  enum class Kind { kAttached, kReadsOver, kDone, kStop };
  Kind kind;
  // Of kDone:
  absl::Status reason{};
  std::shared_ptr<WorkerStream> stream{};
};

// An epoch that lived this long was no false start: the next try comes at once.
constexpr absl::Duration kHealthyLife = absl::Seconds(2);
// From the end of the reads to the stream's status.
constexpr absl::Duration kStatusTimeout = absl::Seconds(5);

class GrpcGroupClient final : public GroupClient {
 public:
  explicit GrpcGroupClient(GrpcGroupOptions options) : options_(std::move(options)), signals_(64) {}
  ~GrpcGroupClient() override { Stop(); }

  void Start(GroupListener* listener) override {
    listener_ = listener;
    channel_ = MakeWorkerChannel(options_.addresses[0]);
    stub_ = worker::v1::Worker::NewStub(channel_);
    thread_ = std::thread([this] { Run(); });
  }

  void Send(StepPlan plan) override {
    std::shared_ptr<WorkerStream> stream;
    {
      MutexLock lock(mutex_);
      if (plan.epoch != open_epoch_) return;
      stream = stream_;
    }
    if (stream != nullptr) stream->Send(plan);
  }

  void ReadOn() override {
    std::shared_ptr<WorkerStream> stream;
    {
      MutexLock lock(mutex_);
      stream = stream_;
    }
    if (stream != nullptr) stream->ReadOn();
  }

  void Abandon(absl::Status reason) override {
    std::shared_ptr<WorkerStream> stream;
    {
      MutexLock lock(mutex_);
      stream = stream_;
    }
    if (stream != nullptr) stream->Cancel(std::move(reason));
  }

  void Stop() override {
    if (!thread_.joinable()) return;
    signals_.Post({Signal::Kind::kStop});
    {
      MutexLock lock(mutex_);
      is_stopping_ = true;
      if (describe_ != nullptr) describe_->TryCancel();
    }
    Abandon(absl::CancelledError("the router is shutting down"));
    thread_.join();
  }

  std::vector<std::string> addresses() const override { return options_.addresses; }

 private:
  void Run();
  absl::StatusOr<WorkerFacts> Describe();
  // Opens an epoch and returns when it has ended, with the reason.
  absl::Status Serve(const WorkerFacts& facts);
  absl::Status WaitForEnd(WorkerStream& stream);
  bool is_stopping() {
    MutexLock lock(mutex_);
    return is_stopping_;
  }

  const GrpcGroupOptions options_;
  GroupListener* listener_ = nullptr;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<worker::v1::Worker::Stub> stub_;
  std::thread thread_;
  Mailbox<Signal> signals_;
  Epoch last_epoch_;  // the thread's own

  Mutex mutex_;
  bool is_stopping_ MILI_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* describe_ MILI_GUARDED_BY(mutex_) = nullptr;  // while one is under way
  std::shared_ptr<WorkerStream> stream_ MILI_GUARDED_BY(mutex_);
  Epoch open_epoch_ MILI_GUARDED_BY(mutex_);
};

void GrpcGroupClient::Run() {
  absl::Duration backoff = options_.min_backoff;
  while (!is_stopping()) {
    const absl::Time begin = absl::Now();
    absl::StatusOr<WorkerFacts> facts = Describe();
    const absl::Status reason = facts.ok() ? Serve(*facts) : facts.status();
    if (is_stopping()) return;
    listener_->OnLost(last_epoch_, reason);
    if (facts.ok() && absl::Now() - begin > kHealthyLife) backoff = options_.min_backoff;
    const absl::Time retry_at = absl::Now() + backoff;
    backoff = std::min(backoff * 2, options_.max_backoff);
    // Only a stop can come now: the stream is done.
    if (signals_.Take(retry_at).has_value()) return;
  }
}

absl::StatusOr<WorkerFacts> GrpcGroupClient::Describe() {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.describe_timeout));
  {
    MutexLock lock(mutex_);
    if (is_stopping_) return absl::CancelledError("the router is shutting down");
    describe_ = &context;
  }
  auto reader = stub_->Describe(&context, worker::v1::DescribeRequest());
  std::optional<WorkerFacts> facts;
  worker::v1::DescribeResponse response;
  while (reader->Read(&response)) {
    if (response.has_progress()) {
      listener_->OnProgress(response.progress().loaded_bytes(), response.progress().total_bytes());
    } else if (response.has_facts()) {
      facts = FromProto(response.facts());
    }
  }
  const grpc::Status status = reader->Finish();
  {
    MutexLock lock(mutex_);
    describe_ = nullptr;
  }
  if (!status.ok()) return FromGrpc(status);
  if (!facts.has_value()) return absl::InternalError("the worker described itself without facts");
  if (facts->protocol_version != kWorkerProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the worker (build ", facts->build, ") speaks protocol version ",
                     facts->protocol_version, ", this router ", kWorkerProtocolVersion));
  }
  return *std::move(facts);
}

absl::Status GrpcGroupClient::Serve(const WorkerFacts& facts) {
  // One more than any rank or this router has seen: a worker that restarted counts from 0 again.
  last_epoch_ = Epoch(std::max(facts.last_epoch, last_epoch_).value + 1);
  const Epoch epoch = last_epoch_;
  WorkerStream::Callbacks callbacks;
  callbacks.on_attached = [this, epoch, facts] {
    {
      MutexLock lock(mutex_);
      open_epoch_ = epoch;
    }
    signals_.Post({Signal::Kind::kAttached});
    listener_->OnAttached(epoch, facts);
  };
  callbacks.on_result = [this](StepResult result) { listener_->OnResult(std::move(result)); };
  callbacks.on_reads_over = [this] { signals_.Post({Signal::Kind::kReadsOver}); };
  callbacks.on_done = [this](absl::Status reason, std::shared_ptr<WorkerStream> done) {
    signals_.Post({Signal::Kind::kDone, std::move(reason), std::move(done)});
  };
  std::shared_ptr<WorkerStream> stream;
  bool is_stopping = false;
  {
    MutexLock lock(mutex_);
    stream = stream_ =
        WorkerStream::Open(*stub_, epoch, options_.router_name, std::move(callbacks));
    is_stopping = is_stopping_;
  }
  if (is_stopping) stream->Cancel(absl::CancelledError("the router is shutting down"));
  absl::Status reason = WaitForEnd(*stream);
  MutexLock lock(mutex_);
  stream_.reset();
  open_epoch_ = Epoch(0);
  return reason;
}

absl::Status GrpcGroupClient::WaitForEnd(WorkerStream& stream) {
  absl::Time deadline = absl::Now() + options_.attach_timeout;
  bool are_reads_over = false;
  while (true) {
    std::optional<Signal> signal = signals_.Take(deadline);
    if (!signal.has_value()) {
      deadline = absl::InfiniteFuture();
      if (are_reads_over) {
        stream.Kill();
      } else {
        stream.Cancel(absl::DeadlineExceededError(absl::StrCat(
            "the worker did not attach within ", absl::FormatDuration(options_.attach_timeout))));
      }
      continue;
    }
    switch (signal->kind) {
      case Signal::Kind::kAttached:
        deadline = absl::InfiniteFuture();
        break;
      case Signal::Kind::kReadsOver:
        are_reads_over = true;
        deadline = absl::Now() + kStatusTimeout;
        break;
      case Signal::Kind::kDone:
        return std::move(signal->reason);
      case Signal::Kind::kStop:
        break;  // Stop has cancelled the stream; its end is awaited
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<GroupClient>> MakeGrpcGroupClient(GrpcGroupOptions options) {
  if (options.addresses.empty()) return absl::InvalidArgumentError("a group has no address");
  if (options.addresses.size() > 1) {
    return absl::UnimplementedError(absl::StrCat("a group of ", options.addresses.size(),
                                                 " workers: tensor parallelism is not built yet"));
  }
  return std::make_unique<GrpcGroupClient>(std::move(options));
}

}  // namespace mili::router

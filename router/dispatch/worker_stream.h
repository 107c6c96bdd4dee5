// WorkerStream: one Attach stream to one worker, from hello to its end. Lives on gRPC's threads and
// keeps itself alive until gRPC is done with it. One write is in flight at a time, the others wait
// in order; no call blocks.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include <absl/status/status.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "common/base/mutex.h"
#include "common/core/step_plan.h"
#include "mili/worker/v1/worker.grpc.pb.h"

namespace mili::router {

class WorkerStream final
    : public grpc::ClientBidiReactor<worker::v1::AttachRequest, worker::v1::AttachResponse> {
 public:
  // Called on gRPC's threads, one at a time: on_attached once, then on_result any number of times,
  // on_reads_over when nothing more will come, and last on_done once, whatever happened before.
  // on_done hands the stream over, to be let go on a thread of ours: a stream may hold the last
  // reference to its channel, and gRPC 1.51 dies if that ends on one of its own threads.
  struct Callbacks {
    std::function<void()> on_attached;
    std::function<void(StepResult)> on_result;
    std::function<void()> on_reads_over;
    std::function<void(absl::Status, std::shared_ptr<WorkerStream>)> on_done;
  };

  // Opens the stream with its hello. `stub` outlives on_done.
  static std::shared_ptr<WorkerStream> Open(worker::v1::Worker::Stub& stub, Epoch epoch,
                                            const std::string& router_name, Callbacks callbacks);

  // Never blocks. After the end of the stream plans are dropped.
  void Send(const StepPlan& plan);
  // Lets the next result come; see GroupClient.
  void ReadOn();
  // Ends the stream; on_done gets `reason` unless it had ended by itself.
  void Cancel(absl::Status reason);
  // Ends a stream whose reads are over but whose status does not come.
  void Kill() { context_.TryCancel(); }

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  WorkerStream(Epoch epoch, Callbacks callbacks);
  void Enqueue(worker::v1::AttachRequest message);

  const Epoch epoch_;
  const Callbacks callbacks_;
  std::shared_ptr<WorkerStream> self_;  // until OnDone
  grpc::ClientContext context_;
  worker::v1::AttachResponse response_;  // of the read in flight
  bool is_attached_ = false;             // touched by OnReadDone alone

  Mutex mutex_;
  std::deque<worker::v1::AttachRequest> to_write_ MILI_GUARDED_BY(mutex_);  // front: in flight
  bool is_read_due_ MILI_GUARDED_BY(mutex_) = false;  // a result came and ReadOn did not
  bool is_over_ MILI_GUARDED_BY(mutex_) = false;
  absl::Status reason_ MILI_GUARDED_BY(mutex_);
};

}  // namespace mili::router

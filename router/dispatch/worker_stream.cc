#include "router/dispatch/worker_stream.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "common/core/worker_facts.h"
#include "common/wire/status_wire.h"
#include "common/wire/worker_wire.h"

namespace mili::router {

WorkerStream::WorkerStream(Epoch epoch, Callbacks callbacks)
    : epoch_(epoch), callbacks_(std::move(callbacks)) {}

std::shared_ptr<WorkerStream> WorkerStream::Open(worker::v1::Worker::Stub& stub, Epoch epoch,
                                                 const std::string& router_name,
                                                 Callbacks callbacks) {
  std::shared_ptr<WorkerStream> stream(new WorkerStream(epoch, std::move(callbacks)));
  stream->self_ = stream;
  // No deadline: the stream lives as long as the worker; keepalive and the step watch notice its
  // end.
  stub.async()->Attach(&stream->context_, stream.get());
  worker::v1::AttachRequest hello;
  hello.mutable_attach()->set_epoch(epoch.value);
  hello.mutable_attach()->set_protocol_version(kWorkerProtocolVersion);
  hello.mutable_attach()->set_router(router_name);
  // Holds OnDone back as long as Send may come from outside of gRPC's threads.
  stream->AddHold();
  stream->Enqueue(std::move(hello));
  stream->StartRead(&stream->response_);
  stream->StartCall();
  return stream;
}

void WorkerStream::Send(const StepPlan& plan) {
  worker::v1::AttachRequest message;
  *message.mutable_plan() = ToProto(plan);
  Enqueue(std::move(message));
}

void WorkerStream::Enqueue(worker::v1::AttachRequest message) {
  MutexLock lock(mutex_);
  if (is_over_) return;
  to_write_.push_back(std::move(message));
  if (to_write_.size() == 1) StartWrite(&to_write_.front());
}

void WorkerStream::ReadOn() {
  MutexLock lock(mutex_);
  if (!std::exchange(is_read_due_, false) || is_over_) return;
  StartRead(&response_);
}

void WorkerStream::Cancel(absl::Status reason) {
  {
    MutexLock lock(mutex_);
    if (is_over_) return;
    is_over_ = true;
    reason_ = std::move(reason);
  }
  context_.TryCancel();
  RemoveHold();
}

void WorkerStream::OnWriteDone(bool ok) {
  MutexLock lock(mutex_);
  if (!to_write_.empty()) to_write_.pop_front();
  if (!ok || is_over_) return;  // the read fails too and ends the stream
  if (!to_write_.empty()) StartWrite(&to_write_.front());
}

void WorkerStream::OnReadDone(bool ok) {
  if (!ok) {
    bool holds = false;
    {
      MutexLock lock(mutex_);
      holds = !std::exchange(is_over_, true);
    }
    if (holds) RemoveHold();
    callbacks_.on_reads_over();
    return;
  }
  if (response_.has_attached() && !is_attached_) {
    if (response_.attached().epoch() != epoch_.value) {
      Cancel(
          absl::InternalError(absl::StrCat("the worker opened epoch ", response_.attached().epoch(),
                                           ", asked for was ", epoch_.value)));
    } else {
      is_attached_ = true;
      callbacks_.on_attached();
    }
  } else if (response_.has_result() && is_attached_) {
    StepResult result = FromProto(response_.result());
    {
      MutexLock lock(mutex_);
      is_read_due_ = true;
    }
    callbacks_.on_result(std::move(result));
    return;
  } else {
    Cancel(absl::InternalError("the worker sent something else than `attached`, then results"));
  }
  StartRead(&response_);
}

void WorkerStream::OnDone(const grpc::Status& status) {
  absl::Status reason;
  {
    MutexLock lock(mutex_);
    reason = reason_;
  }
  if (reason.ok()) reason = FromGrpc(status);
  if (reason.ok()) reason = absl::UnavailableError("the worker ended the stream");
  const auto on_done = callbacks_.on_done;  // outlives the stream
  on_done(std::move(reason), std::move(self_));
}

}  // namespace mili::router

#include "worker/device/cuda/cuda_stream.h"

#include <cuda_runtime_api.h>

#include "common/base/status_macros.h"
#include "worker/device/cuda/cuda_status.h"

namespace mili::worker {

CudaEvent::~CudaEvent() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

absl::StatusOr<CudaEvent> CudaEvent::Create(bool timed) {
  CudaEvent event;
  const unsigned flags = cudaEventBlockingSync | (timed ? 0u : unsigned{cudaEventDisableTiming});
  MILI_RETURN_IF_ERROR(
      ToStatus(cudaEventCreateWithFlags(&event.event_, flags), "creating an event"));
  return event;
}

absl::Status CudaEvent::Wait() const {
  return ToStatus(cudaEventSynchronize(event_), "waiting for the GPU");
}

absl::StatusOr<float> CudaEvent::ElapsedMs(const CudaEvent& start) const {
  float ms = 0;
  MILI_RETURN_IF_ERROR(ToStatus(cudaEventElapsedTime(&ms, start.event_, event_), "timing a step"));
  return ms;
}

CudaGraph::~CudaGraph() {
  if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
}

CudaStream::~CudaStream() {
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::StatusOr<CudaStream> CudaStream::Create() {
  CudaStream stream;
  MILI_RETURN_IF_ERROR(ToStatus(cudaStreamCreateWithFlags(&stream.stream_, cudaStreamNonBlocking),
                                "creating a stream"));
  return stream;
}

absl::Status CudaStream::CopyToDevice(void* to, const void* from, uint64_t size_bytes) {
  return ToStatus(cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDefault, stream_),
                  "copying to the GPU");
}

absl::Status CudaStream::CopyToHost(void* to, const void* from, uint64_t size_bytes) {
  return ToStatus(cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDeviceToHost, stream_),
                  "copying from the GPU");
}

absl::Status CudaStream::CopyRowsToDevice(void* to, uint64_t to_stride, const void* from,
                                          uint64_t from_stride, uint64_t row_bytes,
                                          uint64_t num_rows) {
  return ToStatus(cudaMemcpy2DAsync(to, to_stride, from, from_stride, row_bytes, num_rows,
                                    cudaMemcpyDefault, stream_),
                  "copying rows to the GPU");
}

absl::Status CudaStream::Zero(void* at, uint64_t size_bytes) {
  return ToStatus(cudaMemsetAsync(at, 0, size_bytes, stream_), "zeroing memory of the GPU");
}

absl::Status CudaStream::Record(const CudaEvent& event) {
  return ToStatus(cudaEventRecord(event.get(), stream_), "recording an event");
}

absl::Status CudaStream::WaitFor(const CudaEvent& event) {
  return ToStatus(cudaStreamWaitEvent(stream_, event.get(), 0), "waiting for an event");
}

absl::Status CudaStream::Synchronize() {
  return ToStatus(cudaStreamSynchronize(stream_), "waiting for the GPU");
}

absl::Status CudaStream::BeginCapture() {
  return ToStatus(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed),
                  "capturing a graph");
}

absl::StatusOr<CudaGraph> CudaStream::EndCapture() {
  cudaGraph_t recorded = nullptr;
  CudaGraph graph;
  cudaError_t error = cudaStreamEndCapture(stream_, &recorded);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&graph.exec_, recorded, 0);
  if (recorded != nullptr) cudaGraphDestroy(recorded);
  if (error != cudaSuccess) cudaGetLastError();  // what comes next is not to be blamed for it
  MILI_RETURN_IF_ERROR(ToStatus(error, "capturing a graph"));
  return graph;
}

absl::Status CudaStream::Upload(const CudaGraph& graph) {
  return ToStatus(cudaGraphUpload(graph.get(), stream_), "uploading a graph");
}

absl::Status CudaStream::Launch(const CudaGraph& graph) {
  return ToStatus(cudaGraphLaunch(graph.get(), stream_), "launching a graph");
}

}  // namespace mili::worker

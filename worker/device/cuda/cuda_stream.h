// CudaStream, CudaEvent, CudaGraph: the device's forms of a FIFO, a latch and a recorded stretch of
// the FIFO. Each belongs to the thread that uses it; an event may be waited for on another.
#pragma once

#include <cstdint>
#include <utility>

#include <absl/status/statusor.h>

struct CUstream_st;
struct CUevent_st;
struct CUgraphExec_st;

namespace mili::worker {

class CudaEvent {
 public:
  CudaEvent() = default;
  ~CudaEvent();
  CudaEvent(CudaEvent&& other) noexcept { *this = std::move(other); }
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  // `timed`: ElapsedMs can be asked. A thread in Wait sleeps.
  static absl::StatusOr<CudaEvent> Create(bool timed);
  absl::Status Wait() const;
  // From `start` to this; both were recorded, timed and waited for.
  absl::StatusOr<float> ElapsedMs(const CudaEvent& start) const;
  CUevent_st* get() const { return event_; }

 private:
  CUevent_st* event_ = nullptr;
};

// What was captured, ready to run again and again with the same addresses.
class CudaGraph {
 public:
  CudaGraph() = default;
  ~CudaGraph();
  CudaGraph(CudaGraph&& other) noexcept { *this = std::move(other); }
  CudaGraph& operator=(CudaGraph&& other) noexcept {
    std::swap(exec_, other.exec_);
    return *this;
  }
  explicit operator bool() const { return exec_ != nullptr; }
  CUgraphExec_st* get() const { return exec_; }

 private:
  friend class CudaStream;
  CUgraphExec_st* exec_ = nullptr;
};

class CudaStream {
 public:
  CudaStream() = default;
  ~CudaStream();
  CudaStream(CudaStream&& other) noexcept { *this = std::move(other); }
  CudaStream& operator=(CudaStream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }
  static absl::StatusOr<CudaStream> Create();

  // Host memory is pinned and stays as it is until the copy has run; what goes to the device may
  // come from it as well.
  absl::Status CopyToDevice(void* to, const void* from, uint64_t size_bytes);
  absl::Status CopyToHost(void* to, const void* from, uint64_t size_bytes);
  // `num_rows` rows of `row_bytes`, which lie `to_stride` and `from_stride` bytes apart.
  absl::Status CopyRowsToDevice(void* to, uint64_t to_stride, const void* from,
                                uint64_t from_stride, uint64_t row_bytes, uint64_t num_rows);
  absl::Status Zero(void* at, uint64_t size_bytes);
  absl::Status Record(const CudaEvent& event);
  // What is enqueued from now on waits for what `event` recorded last.
  absl::Status WaitFor(const CudaEvent& event);
  absl::Status Synchronize();

  // Between the two, this thread's work on the stream is recorded instead of run; kernels that
  // never ran may be loaded. After a failure in between, EndCapture must still be called. A graph
  // that failed leaves the stream as it was.
  absl::Status BeginCapture();
  absl::StatusOr<CudaGraph> EndCapture();
  // Brings what the first launch would bring to the device.
  absl::Status Upload(const CudaGraph& graph);
  absl::Status Launch(const CudaGraph& graph);

  CUstream_st* get() const { return stream_; }

 private:
  CUstream_st* stream_ = nullptr;
};

}  // namespace mili::worker

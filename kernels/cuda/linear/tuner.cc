#include "kernels/cuda/linear/tuner.h"

#include <algorithm>
#include <vector>

namespace mili::kernels::cuda {
namespace {

// A graph is so long that the launch of one is nothing, and so short that many can be tried.
constexpr float kGraphUs = 2000.0f;
constexpr int kMinCalls = 3;
constexpr int kMaxCalls = 24;
constexpr size_t kReplays = 3;
// A candidate so much slower than the best one in its first replay is not timed again.
constexpr float kHopeless = 1.1f;

class Timer {
 public:
  Timer() {
    if (cudaEventCreate(&start_) != cudaSuccess) start_ = nullptr;
    if (cudaEventCreate(&stop_) != cudaSuccess) stop_ = nullptr;
  }
  ~Timer() {
    if (start_ != nullptr) cudaEventDestroy(start_);
    if (stop_ != nullptr) cudaEventDestroy(stop_);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Microseconds of one replay.
  cudaError_t Replay(cudaGraphExec_t graph, cudaStream_t stream, float* us) const {
    if (start_ == nullptr || stop_ == nullptr) return cudaErrorMemoryAllocation;
    cudaError_t error = cudaEventRecord(start_, stream);
    if (error == cudaSuccess) error = cudaGraphLaunch(graph, stream);
    if (error == cudaSuccess) error = cudaEventRecord(stop_, stream);
    if (error == cudaSuccess) error = cudaEventSynchronize(stop_);
    float ms = 0.0f;
    if (error == cudaSuccess) error = cudaEventElapsedTime(&ms, start_, stop_);
    *us = ms * 1e3f;
    return error;
  }

 private:
  cudaEvent_t start_ = nullptr;
  cudaEvent_t stop_ = nullptr;
};

struct Trial {
  const LinearTuneRequest& request;
  const RunCandidate& run;
  cudaStream_t stream;

  cudaError_t Call(const AlgoTable::Entry& candidate, size_t i) const {
    LinearParams params = request.params;
    if (!request.weights.empty()) params.w = request.weights[i % request.weights.size()];
    params.pdl = params.pdl && i > 0;
    return run(params, candidate);
  }

  // A graph of `num_calls` calls; null when the algorithm does not run.
  cudaGraphExec_t Capture(const AlgoTable::Entry& candidate, int num_calls) const {
    if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
      return nullptr;
    }
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < num_calls && error == cudaSuccess; ++i) error = Call(candidate, i);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    if (error == cudaSuccess && ended == cudaSuccess &&
        cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess) {
      exec = nullptr;
    }
    if (graph != nullptr) cudaGraphDestroy(graph);
    return exec;
  }

  // Median microseconds of a call; as soon as it is hopeless beside `best`, one replay's.
  cudaError_t Time(const Timer& timer, const AlgoTable::Entry& candidate, int num_calls, float best,
                   float* us) const {
    const cudaGraphExec_t graph = Capture(candidate, num_calls);
    if (graph == nullptr) {
      cudaGetLastError();  // the failure is the candidate's and has been dealt with
      return cudaErrorNotSupported;
    }
    std::vector<float> times;
    float time = 0.0f;
    cudaError_t error = cudaSuccess;
    while (error == cudaSuccess && times.size() < kReplays) {
      error = timer.Replay(graph, stream, &time);
      times.push_back(time / static_cast<float>(num_calls));
      if (best > 0.0f && times.front() > best * kHopeless) break;
    }
    cudaGraphExecDestroy(graph);
    std::sort(times.begin(), times.end());
    if (!times.empty()) *us = times[times.size() / 2];
    return error;
  }
};

}  // namespace

cudaError_t TuneLinear(const LinearTuneRequest& request,
                       const std::vector<AlgoTable::Entry>& candidates, const RunCandidate& run,
                       cudaStream_t stream, AlgoTable::Entry* best) {
  const Timer timer;
  const Trial trial = {request, run, stream};
  float best_us = 0.0f;
  int num_calls = 0;
  for (const AlgoTable::Entry& candidate : candidates) {
    // Alone and outside of a graph first: kernels load lazily, which a capture forbids.
    if (trial.Call(candidate, 0) != cudaSuccess) {
      cudaGetLastError();
      continue;
    }
    cudaError_t error = cudaStreamSynchronize(stream);
    if (error != cudaSuccess) return error;
    float us = 0.0f;
    if (best_us == 0.0f) {
      error = trial.Time(timer, candidate, kMinCalls, 0.0f, &us);
      if (error == cudaErrorNotSupported) continue;
      if (error != cudaSuccess) return error;
      num_calls = std::clamp(static_cast<int>(kGraphUs / us), kMinCalls, kMaxCalls);
    }
    error = trial.Time(timer, candidate, num_calls, best_us, &us);
    if (error == cudaErrorNotSupported) continue;
    if (error != cudaSuccess) return error;
    if (best_us == 0.0f || us < best_us) {
      best_us = us;
      *best = candidate;
      best->us = us;
    }
  }
  return best_us > 0.0f ? cudaSuccess : cudaErrorNotSupported;
}

}  // namespace mili::kernels::cuda

// What the benches of single GPU kernels share: device memory with numbers in it, and the time of a
// call in a graph of several. Stops the program when CUDA fails. One thread.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <vector>

#include "common/base/dtype.h"

namespace mili::kernels::cuda {

inline void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Device memory with random bf16 elements, or copies of what the host has.
inline void* Random(size_t bytes, float spread = 1) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, spread);
  std::vector<uint16_t> block(1 << 20);
  for (uint16_t& element : block) element = mili::FloatToBf16(normal(random));
  void* data = nullptr;
  Check(cudaMalloc(&data, bytes + block.size() * 2), "memory");
  for (size_t done = 0; done < bytes; done += block.size() * 2) {
    Check(cudaMemcpy(static_cast<char*>(data) + done, block.data(), block.size() * 2,
                     cudaMemcpyHostToDevice),
          "fill");
  }
  return data;
}

template <typename T>
T* OnDevice(const std::vector<T>& host) {
  void* data = nullptr;
  Check(cudaMalloc(&data, host.size() * sizeof(T) + 16), "memory");
  Check(cudaMemcpy(data, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "fill");
  return static_cast<T*>(data);
}

class Timer {
 public:
  // `num_calls` in a graph.
  explicit Timer(int num_calls) : num_calls_(num_calls) {
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    Check(cudaEventCreate(&start_), "event");
    Check(cudaEventCreate(&stop_), "event");
  }
  // Microseconds of a call.
  double Time(const std::function<cudaError_t(int call, cudaStream_t)>& call) {
    Check(call(0, stream_), "call");
    Check(cudaStreamSynchronize(stream_), "call");
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < num_calls_; ++i) Check(call(i, stream_), "captured call");
    Check(cudaStreamEndCapture(stream_, &graph), "capture");
    Check(cudaGraphInstantiate(&exec, graph, 0), "graph");
    std::vector<double> times;
    for (int repeat = 0; repeat < 11; ++repeat) {
      Check(cudaEventRecord(start_, stream_), "event");
      Check(cudaGraphLaunch(exec, stream_), "launch");
      Check(cudaEventRecord(stop_, stream_), "event");
      Check(cudaEventSynchronize(stop_), "replay");
      float ms = 0;
      Check(cudaEventElapsedTime(&ms, start_, stop_), "time");
      if (repeat >= 2) times.push_back(ms * 1e3 / num_calls_);
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t stop_ = nullptr;
  const int num_calls_;
};

}  // namespace mili::kernels::cuda

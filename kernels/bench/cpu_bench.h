// What the benchmarks of CPU kernels share: threads, memory that no cache holds, and the machine's
// limits measured beside each kernel. One thread calls; nothing here is kept between benchmarks.
#pragma once

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/bench/peaks.h"
#include "kernels/params.h"

namespace mili::kernels {

// Threads that spin between calls, so that waking them is not measured.
class SpinningPool final : public ParallelFor {
 public:
  explicit SpinningPool(int num_threads);
  ~SpinningPool() override;
  int num_threads() const override { return num_threads_; }
  void Run(void (*task)(void*, int), void* context) override;

 private:
  const int num_threads_;
  std::atomic<int> round_{0};
  std::atomic<int> num_done_{0};
  void (*task_)(void*, int) = nullptr;
  void* context_ = nullptr;
  std::vector<std::thread> threads_;
};

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<std::byte, FreeDeleter>;

// Random bytes of which no float of any type is infinite or near the smallest, which Intel's CPUs
// compute with by microcode; on large pages, as the worker's weights are, which are read half as
// fast again.
Buffer RandomBytes(size_t size);

struct Setup {
  const CpuKernels& table;
  SpinningPool& pool;
  const std::byte* memory = nullptr;  // random, more than twice what the caches hold
  size_t memory_bytes = 0;
};

// The setup's memory in stretches of equal size, which kernels and plain reads take in turn: each
// was last touched as long ago as the memory is large.
class Stretches {
 public:
  Stretches(const Setup& setup, size_t bytes)
      : setup_(setup),
        stride_((bytes + 4095) / 4096 * 4096),
        bytes_(bytes),
        count_(setup.memory_bytes / stride_) {}
  size_t bytes() const { return bytes_; }
  const std::byte* Next() { return At(next_++); }
  // How long a plain read of as many bytes takes.
  double ReadNext() { return ReadSeconds(At(next_ + count_ / 2), bytes_ / 256 * 256, setup_.pool); }

 private:
  const std::byte* At(size_t i) const { return setup_.memory + i % count_ * stride_; }

  const Setup& setup_;
  const size_t stride_;
  const size_t bytes_;
  const size_t count_;
  size_t next_ = 0;
};

// Runs kernel() and read() in turn, read() a plain read of `bytes`, which the kernel also has to
// read. Reports the time of the kernel, "of_read", what the reads took over what it took, and the
// rate of the reads.
template <typename Kernel, typename Read>
void MeasureBeside(benchmark::State& state, size_t bytes, Kernel kernel, Read read) {
  double kernel_seconds = 0, read_seconds = 0;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    kernel();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    state.SetIterationTime(taken.count());
    kernel_seconds += taken.count();
    read_seconds += read();
  }
  state.SetBytesProcessed(state.iterations() * bytes);
  state.counters["of_read"] = read_seconds / kernel_seconds;
  state.counters["read_bytes/s"] = static_cast<double>(bytes * state.iterations()) / read_seconds;
}

// The same for a kernel that reads a stretch, which it is given.
template <typename Kernel>
void MeasureCold(benchmark::State& state, Stretches& stretches, Kernel kernel) {
  MeasureBeside(
      state, stretches.bytes(), [&] { kernel(stretches.Next()); },
      [&] { return stretches.ReadNext(); });
}

// The same for a kernel whose `bytes`, a multiple of 256, stay in the caches: the plain read by the
// kernel's threads finds as many at `data` there too.
template <typename Kernel>
void MeasureWarm(benchmark::State& state, ParallelFor& pool, const void* data, size_t bytes,
                 Kernel kernel) {
  MeasureBeside(state, bytes, kernel,
                [&] { return ReadSeconds(static_cast<const std::byte*>(data), bytes, pool); });
}

// Reports `macs` multiply-adds a call, and their share of what `arithmetic` could do, measured now.
void ReportMacs(benchmark::State& state, int64_t macs, Arithmetic arithmetic, const Setup& setup);

template <typename Bench>
void Add(const std::string& name, Bench bench) {
  benchmark::RegisterBenchmark(name.c_str(), bench)->UseManualTime();
}

void RegisterLinear(Setup& setup);
void RegisterAttention(Setup& setup);

}  // namespace mili::kernels

// CpuPool: the threads that kernels compute on. The caller of Run is thread 0; the helpers spin for
// microseconds between the loops of one step and sleep otherwise. A helper that comes too late for
// a loop is not waited for. Never started twice, never larger than what CpuLimits allows; one
// caller at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "kernels/parallel.h"

namespace mili::worker {

class CpuPool final : public kernels::ParallelFor {
 public:
  // `num_threads` counts the caller; at least 1. `cpus` is empty or holds a CPU for each thread, on
  // which it stays (the caller from its first Run on): two threads that wake each other thousands
  // of times a second are otherwise drawn to the same CPU, where each waits for the other.
  explicit CpuPool(int num_threads, std::vector<int> cpus = {});
  ~CpuPool() override;
  CpuPool(const CpuPool&) = delete;
  CpuPool& operator=(const CpuPool&) = delete;

  int num_threads() const override { return num_threads_; }
  // The CPU on which the caller stays, if it does.
  std::optional<int> caller_cpu() const {
    return cpus_.empty() ? std::nullopt : std::optional<int>(cpus_[0]);
  }
  void Run(void (*task)(void*, int), void* context) override;

 private:
  // Gives way to other threads now and then. Belongs to one thread.
  class Pace {
   public:
    void Pass();

   private:
    std::chrono::steady_clock::time_point last_;
  };

  // The state of a loop, one word: its number (wrapping; the high bits), whether it is closed, and
  // how many helpers are in it.
  static constexpr uint32_t kInside = 1;
  static constexpr uint32_t kClosed = 1u << 10;
  static constexpr uint32_t kLoop = 1u << 11;
  static constexpr int kMaxThreads = 1 << 10;

  void HelperMain(int thread_idx);
  // Enters the loop that is open; false if none is. *seen becomes the loop entered or missed.
  bool Enter(uint32_t* seen);

  const int num_threads_;
  const std::vector<int> cpus_;
  Pace caller_pace_;
  std::thread::id caller_;  // that stays on cpus_[0]
  // Helpers wait for another loop, the caller for an empty one. What they need with it lies in the
  // same cache line.
  alignas(64) std::atomic<uint32_t> state_{kClosed};
  std::atomic<uint32_t> num_sleeping_{0};
  void (*task_)(void*, int) = nullptr;    // written while the loop is closed and empty
  std::atomic<void*> context_ = nullptr;  // likewise, but a helper looks before it enters
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> helpers_;
};

}  // namespace mili::worker

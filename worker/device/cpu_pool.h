// CpuPool: the threads that kernels compute on. The caller of Run is thread 0; the helpers spin for
// microseconds between the loops of one step and sleep otherwise. Never started twice, never
// larger than what CpuLimits allows; one caller at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
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
  void Run(void (*task)(void*, int), void* context) override;

 private:
  // Gives way to other threads now and then. Belongs to one thread.
  class Pace {
   public:
    void Pass();

   private:
    std::chrono::steady_clock::time_point last_;
  };

  void HelperMain(int thread_idx);

  const int num_threads_;
  const std::vector<int> cpus_;
  Pace caller_pace_;
  std::thread::id caller_;              // that stays on cpus_[0]
  void (*task_)(void*, int) = nullptr;  // written before generation_ moves, read after
  void* context_ = nullptr;
  // Moves by one for each Run; helpers wait for it.
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::atomic<uint32_t> num_sleeping_{0};
  std::atomic<bool> stopping_{false};
  // Helpers that still compute; the caller waits for 0.
  alignas(64) std::atomic<uint32_t> num_busy_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::vector<std::thread> helpers_;
};

}  // namespace mili::worker

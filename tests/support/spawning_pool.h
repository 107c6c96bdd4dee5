// A ParallelFor for tests: each Run starts its threads and joins them. Slow and plainly right.
#pragma once

#include <thread>
#include <vector>

#include "kernels/parallel.h"

namespace mili {

class SpawningPool final : public kernels::ParallelFor {
 public:
  explicit SpawningPool(int num_threads) : num_threads_(num_threads) {}

  int num_threads() const override { return num_threads_; }

  void Run(void (*task)(void* context, int thread_idx), void* context) override {
    std::vector<std::thread> threads;
    for (int i = 1; i < num_threads_; ++i) threads.emplace_back(task, context, i);
    task(context, 0);
    for (std::thread& thread : threads) thread.join();
  }

 private:
  const int num_threads_;
};

}  // namespace mili

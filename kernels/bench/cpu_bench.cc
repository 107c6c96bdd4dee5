#include "kernels/bench/cpu_bench.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace mili::kernels {

SpinningPool::SpinningPool(int num_threads) : num_threads_(num_threads) {
  for (int i = 1; i < num_threads; ++i) {
    threads_.emplace_back([this, i] {
      for (int round = 1;; ++round) {
        while (round_.load(std::memory_order_acquire) < round) std::this_thread::yield();
        if (task_ == nullptr) return;
        task_(context_, i);
        num_done_.fetch_add(1, std::memory_order_release);
      }
    });
  }
}

SpinningPool::~SpinningPool() {
  task_ = nullptr;
  round_.fetch_add(1, std::memory_order_release);
  for (std::thread& thread : threads_) thread.join();
}

void SpinningPool::Run(void (*task)(void*, int), void* context) {
  task_ = task;
  context_ = context;
  num_done_.store(0, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  task(context, 0);
  while (num_done_.load(std::memory_order_acquire) < num_threads_ - 1) std::this_thread::yield();
}

Buffer RandomBytes(size_t size) {
  constexpr size_t kPage = size_t{2} << 20;
  const size_t whole = (size / kPage + 1) * kPage;
  Buffer buffer(static_cast<std::byte*>(std::aligned_alloc(kPage, whole)));
  madvise(buffer.get(), whole, MADV_HUGEPAGE);
  std::minstd_rand rng(1);
  const size_t fresh = std::min(size, kPage);
  for (size_t i = 0; i < fresh; ++i) buffer.get()[i] = std::byte((rng() & 0x1b) | 0x20);
  for (size_t i = fresh; i < size; i += kPage) {
    std::memcpy(buffer.get() + i, buffer.get(), std::min(kPage, size - i));
  }
  return buffer;
}

void ReportMacs(benchmark::State& state, int64_t macs, Arithmetic arithmetic, const Setup& setup) {
  state.counters["mac/s"] =
      benchmark::Counter(static_cast<double>(macs), benchmark::Counter::kIsIterationInvariantRate);
  const double peak = PeakMacs(setup.table, arithmetic, setup.pool);
  if (peak == 0) return;
  state.counters["of_peak"] = benchmark::Counter(static_cast<double>(macs) / peak,
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace mili::kernels

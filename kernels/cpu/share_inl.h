// How a kernel splits its items over the pool: contiguous shares, and the caller alone when waking
// threads would cost more than the work.
#pragma once

#include "kernels/cpu/vec.h"
#include "kernels/parallel.h"

namespace mili::kernels {
namespace {

// Below this many elements one thread is done before another has woken.
constexpr int64_t kMinParallelElements = 65536;

// Calls body(begin, end) on disjoint ranges that cover [0, count).
template <typename Body>
MILI_INLINE void Split(ParallelFor& pool, int64_t count, int64_t elements_per_item, Body body) {
  const int num_threads = pool.num_threads();
  if (num_threads == 1 || count <= 1 || count * elements_per_item < kMinParallelElements) {
    body(int64_t{0}, count);
    return;
  }
  struct Context {
    Body* body;
    int64_t count;
    int num_threads;
  } context = {&body, count, num_threads};
  pool.Run(
      [](void* data, int thread_idx) {
        const auto& c = *static_cast<Context*>(data);
        const int64_t begin = c.count * thread_idx / c.num_threads;
        const int64_t end = c.count * (thread_idx + 1) / c.num_threads;
        if (begin < end) (*c.body)(begin, end);
      },
      &context);
}

}  // namespace
}  // namespace mili::kernels

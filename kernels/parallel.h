// ParallelFor: how a kernel gets at threads it does not own. The pool lives in worker/device.
#pragma once

#include <cstdint>
#include <utility>

namespace mili::kernels {

class ParallelFor {
 public:
  virtual ~ParallelFor() = default;
  virtual int num_threads() const = 0;
  // Calls task(context, thread_idx) once for each thread_idx in [0, num_threads()), all at the same
  // time, the caller being thread 0, and returns when every call has. Never nested, one caller at a
  // time.
  virtual void Run(void (*task)(void* context, int thread_idx), void* context) = 0;
};

// Runs `body(thread_idx)` on every thread.
template <typename Body>
void OnEachThread(ParallelFor& pool, Body body) {
  pool.Run([](void* context, int thread_idx) { (*static_cast<Body*>(context))(thread_idx); },
           &body);
}

// The contiguous share [begin, end) of `count` items that thread `thread_idx` of `num_threads`
// takes; cut at multiples of `granule`.
inline std::pair<int64_t, int64_t> ShareOf(int64_t count, int64_t granule, int thread_idx,
                                           int num_threads) {
  const int64_t granules = (count + granule - 1) / granule;
  const int64_t begin = granules * thread_idx / num_threads * granule;
  const int64_t end = granules * (thread_idx + 1) / num_threads * granule;
  return {begin < count ? begin : count, end < count ? end : count};
}

// A pool of one: the caller.
class SingleThread final : public ParallelFor {
 public:
  int num_threads() const override { return 1; }
  void Run(void (*task)(void*, int), void* context) override { task(context, 0); }
};

}  // namespace mili::kernels

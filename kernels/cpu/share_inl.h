// How a kernel splits its items over the pool: in pieces, and the caller alone when waking threads
// would cost more than the work.
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
  if (pool.num_threads() == 1 || count <= 1 || count * elements_per_item < kMinParallelElements) {
    return body(int64_t{0}, count);
  }
  ForPieces(pool, count, 1, [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

}  // namespace
}  // namespace mili::kernels

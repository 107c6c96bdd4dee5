// How a kernel splits its rows over the pool: in pieces, and the caller alone when waking threads
// would cost more than the work.
#pragma once

#include "kernels/parallel.h"

namespace mili::kernels {

// Below this many elements touched, one thread is faster than waking another (a few microseconds).
inline constexpr int64_t kMinParallelElements = 16384;

// Calls body(begin, end) on disjoint ranges that cover [0, count).
template <typename Body>
void ForEachShare(ParallelFor& pool, int64_t count, int64_t elements_per_item, Body&& body) {
  if (pool.num_threads() == 1 || count <= 1 || count * elements_per_item < kMinParallelElements) {
    body(int64_t{0}, count);
    return;
  }
  ForPieces(pool, count, 1, [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

}  // namespace mili::kernels

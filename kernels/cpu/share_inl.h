// How a kernel splits its items over the pool: in pieces, and the caller alone when waking threads
// would cost more than the work.
#pragma once

#include "kernels/cpu/vec.h"
#include "kernels/parallel.h"

namespace mili::kernels {
namespace {

// What one thread has done in two microseconds, when another has begun and is waited for: elements
// of a row kernel (norm, SiLU, rotation), and multiply-adds of a matrix product.
constexpr int64_t kMinParallelElements = 6144;
constexpr int64_t kMinParallelMacs = 16384;

// Calls body(begin, end) on disjoint ranges that cover [0, count). What the body holds by value a
// thread finds at once, what it refers to one cache line of the caller's after the other.
template <typename Body>
MILI_INLINE void Split(ParallelFor& pool, int64_t count, bool is_worth_it, Body body) {
  if (pool.num_threads() == 1 || count <= 1 || !is_worth_it) return body(int64_t{0}, count);
  ForPieces(pool, count, 1, [body](int64_t begin, int64_t end, int) { body(begin, end); });
}

}  // namespace
}  // namespace mili::kernels

// Lanes exchanged between vectors: matrices of lanes turned, and vectors reduced several at a time,
// with a fraction of the shuffles that one after the other takes. Part of the kernels of one
// instruction set (vec.h).
#pragma once

#include "kernels/cpu/vec.h"

namespace mili::kernels {
namespace {

template <int... kIndices>
struct Lanes {};

// Exchanges, between two rows of a matrix, the lanes whose number has the bit kStage.
template <typename I, int kCount, int kStage, int... kLane>
MILI_INLINE void Exchange(I& a, I& b, Lanes<kLane...>) {
  const I low =
      __builtin_shufflevector(a, b, ((kLane & kStage) != 0 ? kCount + kLane - kStage : kLane)...);
  const I high =
      __builtin_shufflevector(a, b, ((kLane & kStage) != 0 ? kCount + kLane : kLane + kStage)...);
  a = low;
  b = high;
}

template <int kCount>
MILI_INLINE auto AllLanes() {
  if constexpr (kCount == 4) {
    return Lanes<0, 1, 2, 3>();
  } else if constexpr (kCount == 8) {
    return Lanes<0, 1, 2, 3, 4, 5, 6, 7>();
  } else {
    return Lanes<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>();
  }
}

template <typename Isa, int kStage>
MILI_INLINE void TransposeFrom(typename Isa::I* rows) {
  if constexpr (kStage < Isa::kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < Isa::kLanes; ++i) {
      if ((i & kStage) != 0) continue;
      Exchange<typename Isa::I, Isa::kLanes, kStage>(rows[i], rows[i + kStage],
                                                     AllLanes<Isa::kLanes>());
    }
    TransposeFrom<Isa, 2 * kStage>(rows);
  }
}

// Reduces kLanes vectors by `op`, which is commutative and associative: lane i of the result is
// what row i comes to. The rows are consumed.
template <typename Isa, int kStage = 1, typename Op>
MILI_INLINE typename Isa::I ReduceRows(typename Isa::I* rows, Op op) {
  if constexpr (kStage < Isa::kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < Isa::kLanes; i += 2 * kStage) {
      Exchange<typename Isa::I, Isa::kLanes, kStage>(rows[i], rows[i + kStage],
                                                     AllLanes<Isa::kLanes>());
      rows[i] = op(rows[i], rows[i + kStage]);
    }
    return ReduceRows<Isa, 2 * kStage>(rows, op);
  } else {
    return rows[0];
  }
}

}  // namespace
}  // namespace mili::kernels

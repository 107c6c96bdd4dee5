// Sums of kLanes rows and a few tokens, to and from the output of a Linear.
#pragma once

#include "kernels/cpu/vec.h"
#include "kernels/params.h"

namespace mili::kernels {
namespace {

// Where a vector of rows goes. The last of a matrix may have fewer rows.
struct OutputRows {
  float* y;  // of token 0 and the first row
  int64_t y_stride;
  const float* bias;  // of the first row, or null
  int64_t num_rows;   // from the first to the end of the matrix
};

MILI_INLINE OutputRows OutputRowsOf(const LinearPart& part, int64_t row) {
  return {part.y + row, part.y_stride, part.bias == nullptr ? nullptr : part.bias + row,
          part.weight.rows - row};
}

template <typename Isa>
MILI_INLINE typename Isa::F LoadRows(const float* p, int64_t n) {
  return n >= Isa::kLanes ? LoadF<Isa>(p) : LoadFirst<Isa>(p, n);
}

// The sums so far: none before the first columns.
template <typename Isa, int kTokens>
MILI_INLINE void LoadSums(const OutputRows& out, int64_t token, bool is_first,
                          typename Isa::F (&sums)[kTokens]) {
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    sums[t] = is_first ? typename Isa::F{}
                       : LoadRows<Isa>(out.y + (token + t) * out.y_stride, out.num_rows);
  }
}

// With the last columns comes the bias.
template <typename Isa, int kTokens>
MILI_INLINE void StoreSums(const OutputRows& out, int64_t token, bool is_last,
                           typename Isa::F (&sums)[kTokens]) {
  const int64_t num_rows = MinOf(out.num_rows, Isa::kLanes);
  if (is_last && out.bias != nullptr) {
    const typename Isa::F bias = LoadRows<Isa>(out.bias, num_rows);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) sums[t] += bias;
  }
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    StoreFirst<Isa>(out.y + (token + t) * out.y_stride, sums[t], num_rows);
  }
}

}  // namespace
}  // namespace mili::kernels

// Linear with packed fp32, fp16 or bf16 weights and fp32 activations. Sum of one output, for every
// number of tokens beside it: over runs of 512 columns in order, the sum of their even columns plus
// that of their odd ones, each by fma in order.
#pragma once

#include "kernels/cpu/linear_output_inl.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/panel_inl.h"
#include "kernels/cpu/unpack_inl.h"

namespace mili::kernels {
namespace {

// Columns whose weights stay in L1 while every panel meets them.
constexpr int64_t kFloatTileColumns = 512;

// kLanes rows of a group: columns 2 i and 2 i + 1.
template <typename Isa, DType kType>
struct FloatPairs {
  using F = typename Isa::F;
  using I = typename Isa::I;
  static constexpr int64_t kPairBytes = kType == DType::kF32 ? 128 : 64;

  MILI_INLINE FloatPairs(const std::byte* group, int64_t row)
      : base(reinterpret_cast<const uint8_t*>(group) + row * (kType == DType::kF16 ? 2 : 4)) {}

  MILI_INLINE void Load(int64_t i, F* even, F* odd) const {
    const uint8_t* pair = base + i * kPairBytes;
    if constexpr (kType == DType::kF32) {
      *even = LoadAs<F>(pair);
      *odd = LoadAs<F>(pair + 64);
    } else if constexpr (kType == DType::kF16) {
      *even = Isa::LoadHalf(pair);
      *odd = Isa::LoadHalf(pair + 32);
    } else {
      const I both = LoadAs<I>(pair);
      *even = reinterpret_cast<F>(both << 16);
      *odd = reinterpret_cast<F>(both & static_cast<int>(0xffff0000));
    }
  }
  MILI_INLINE void Prefetch(int64_t i) const {
    const uint8_t* next = base + i * kPairBytes + kPrefetchBytes;
    __builtin_prefetch(next);
    if constexpr (kPairBytes == 128) __builtin_prefetch(next + 64);
  }

  const uint8_t* const base;
};

// Adds columns [begin, end) of kTokens tokens, whose rows of `cols` start at x, to the sums; begin
// is even, end too but at the end of the row.
template <typename Isa, DType kType, int kTokens>
MILI_INLINE void AddColumns(const FloatPairs<Isa, kType>& weights, const float* x, int64_t cols,
                            int64_t begin, int64_t end, typename Isa::F (&sums)[kTokens]) {
  using F = typename Isa::F;
  F evens[kTokens] = {}, odds[kTokens] = {};
  F even, odd;
  int64_t i = begin;
  for (; i + 2 <= end; i += 2) {
    weights.Prefetch(i / 2);
    weights.Load(i / 2, &even, &odd);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      evens[t] = Isa::Fma(even, Broadcast<Isa>(x[t * cols + i]), evens[t]);
      odds[t] = Isa::Fma(odd, Broadcast<Isa>(x[t * cols + i + 1]), odds[t]);
    }
  }
  if (i < end) {
    weights.Load(i / 2, &even, &odd);
    for (int t = 0; t < kTokens; ++t) {
      evens[t] = Isa::Fma(even, Broadcast<Isa>(x[t * cols + i]), evens[t]);
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) sums[t] += evens[t] + odds[t];
}

// kLanes rows from `row` on, for tokens [begin, end): whole panels but for the last of all.
template <typename Isa, DType kType>
void FloatRows(const LinearParams& p, const LinearPart& part, int64_t row, int64_t begin,
               int64_t end) {
  const int64_t cols = p.in_features;
  const FloatPairs<Isa, kType> weights(
      part.weight.data + row / kPackedRows * PackedGroupBytes(kType, cols), row % kPackedRows);
  const OutputRows out = OutputRowsOf(part, row);
  for (int64_t first = 0; first < cols; first += kFloatTileColumns) {
    const int64_t last = MinOf(first + kFloatTileColumns, cols);
    ForEachPanel<Isa::kTokenTile>(begin, end, p.num_tokens, [&](int64_t token, auto size) {
      constexpr int kTokens = decltype(size)::kValue;
      typename Isa::F sums[kTokens];
      LoadSums<Isa>(out, token, first == 0, sums);
      AddColumns<Isa, kType, kTokens>(weights, p.x + token * cols, cols, first, last, sums);
      StoreSums<Isa>(out, token, last == cols, sums);
    });
  }
}

}  // namespace
}  // namespace mili::kernels

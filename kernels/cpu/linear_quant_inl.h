// Linear with packed quantised weights and int8 activations. Sum of one output, for every number of
// tokens beside it: over blocks of 32 columns in order,
//   sum = fma(fma(dot1, x_scale1, dot0 * x_scale0), d, sum)
// with the integer dot products of the block's halves; then, for types with a minimum,
// sum = fma(m, x_sum, sum); where d differs between the halves, sum = fma(dot * x_scale, d, sum)
// for each half.
//
// A few tokens meet the weights as these come from memory, a second panel unpacks them again out of
// the caches. For more, kLanes rows of some columns are unpacked into a tile (L1) that every panel
// meets.
#pragma once

#include "kernels/cpu/linear_output_inl.h"
#include "kernels/cpu/panel_inl.h"
#include "kernels/cpu/unpack_inl.h"

namespace mili::kernels {
namespace {

constexpr int64_t kTileColumns = 1536;
// With so few tokens a tile costs more to write than it spares.
constexpr int64_t kMostTokensWithoutTile = 16;

// A vector of rows, unpacked. It answers as Packed does, counting blocks from its own first.
template <typename Isa, DType kType>
struct WeightTile {
  using F = typename Isa::F;
  using I = typename Isa::I;
  using Q = Packed<Isa, kType>;
  MILI_INLINE I W(int64_t b, int i) const { return w[8 * b + i]; }
  MILI_INLINE F D(int64_t b) const { return d[b]; }
  MILI_INLINE F D(int64_t b, int half) const { return d[2 * b + half]; }
  MILI_INLINE F M(int64_t b) const { return m[b]; }
  MILI_INLINE void Prefetch(int64_t) const {}

  I w[kTileColumns / 4];
  F d[kTileColumns / (Q::kHasHalves ? 16 : 32)];
  F m[Q::kHasMin ? kTileColumns / 32 : 1];
};

// The integer dot products of half a block with kTokens tokens.
template <typename Isa, DType kType, int kTokens, typename Source>
MILI_INLINE void DotHalf(const Source& weights, int64_t b, int half, const PanelBlock<kTokens>& x,
                         typename Isa::I (&dots)[kTokens]) {
  using Q = Packed<Isa, kType>;
  using I = typename Isa::I;
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    dots[t] = I{};
    if constexpr (Q::kOffset != 0) dots[t] = I{} - (I{} + x.sum16[t][half]) * Q::kOffset;
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const I w = weights.W(b, 4 * half + j);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const auto four = LoadAs<int32_t>(x.q[t] + 16 * half + 4 * j);
      dots[t] = Q::kSigned ? Isa::DotSigned(dots[t], w, four) : Isa::Dot(dots[t], w, four);
    }
  }
}

// Adds `num_blocks` blocks, from `first` of the weights on, to the sums of kTokens tokens.
template <typename Isa, DType kType, int kTokens, typename Source>
MILI_INLINE void AddBlocks(const Source& weights, const PanelBlock<kTokens>* panel,
                           int64_t num_blocks, typename Isa::F (&sums)[kTokens]) {
  using Q = Packed<Isa, kType>;
  using F = typename Isa::F;
  for (int64_t b = 0; b < num_blocks; ++b) {
    const PanelBlock<kTokens>& x = panel[b];
    F scaled[kTokens];
    weights.Prefetch(b);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      typename Isa::I dots[kTokens];
      DotHalf<Isa, kType, kTokens>(weights, b, half, x, dots);
      F d = {};
      if constexpr (Q::kHasHalves) d = weights.D(b, half);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const F scale = Broadcast<Isa>(x.scale[t][half]);
        const F dot = ToF<Isa>(dots[t]);
        if constexpr (Q::kHasHalves) {
          sums[t] = Isa::Fma(dot * scale, d, sums[t]);
        } else {
          scaled[t] = half == 0 ? dot * scale : Isa::Fma(dot, scale, scaled[t]);
        }
      }
    }
    if constexpr (!Q::kHasHalves) {
      const F d = weights.D(b);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) sums[t] = Isa::Fma(scaled[t], d, sums[t]);
    }
    if constexpr (Q::kHasMin) {
      const F m = weights.M(b);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        sums[t] = Isa::Fma(m, Broadcast<Isa>(x.sum[t]), sums[t]);
      }
    }
  }
}

template <typename Isa, DType kType>
MILI_INLINE void FillTile(const Packed<Isa, kType>& weights, int64_t first, int64_t num_blocks,
                          WeightTile<Isa, kType>* tile) {
  using Q = Packed<Isa, kType>;
  for (int64_t b = 0; b < num_blocks; ++b) {
    weights.Prefetch(first + b);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) tile->w[8 * b + i] = weights.W(first + b, i);
    if constexpr (Q::kHasHalves) {
      for (int half = 0; half < 2; ++half) tile->d[2 * b + half] = weights.D(first + b, half);
    } else {
      tile->d[b] = weights.D(first + b);
    }
    if constexpr (Q::kHasMin) tile->m[b] = weights.M(first + b);
  }
}

// Blocks [first, first + num_blocks), of which `weights` are the first, with tokens [begin, end).
template <typename Isa, DType kType, typename Source>
MILI_INLINE void MeetPanels(const Source& weights, int64_t first, int64_t num_blocks,
                            const LinearParams& p, int64_t begin, int64_t end,
                            const OutputRows& out) {
  const bool is_last = first + num_blocks == p.in_features / 32;
  ForEachPanel<Isa::kTokenTile>(begin, end, p.num_tokens, [&](int64_t token, auto size) {
    constexpr int kTokens = decltype(size)::kValue;
    const auto* panel = reinterpret_cast<const PanelBlock<kTokens>*>(
        p.workspace + token * PanelTokenBytes(p.in_features));
    typename Isa::F sums[kTokens];
    LoadSums<Isa>(out, token, first == 0, sums);
    AddBlocks<Isa, kType, kTokens>(weights, panel + first, num_blocks, sums);
    StoreSums<Isa>(out, token, is_last, sums);
  });
}

// One block of a vector of rows, which answers as block 0.
template <typename Isa, DType kType>
struct BlockInTurn {
  using F = typename Isa::F;
  using I = typename Isa::I;
  MILI_INLINE I W(int64_t, int i) const { return weights.W(b, i); }
  MILI_INLINE F D(int64_t) const { return weights.D(b); }
  MILI_INLINE F D(int64_t, int half) const { return weights.D(b, half); }
  MILI_INLINE F M(int64_t) const { return weights.M(b); }
  MILI_INLINE void Prefetch(int64_t) const { weights.Prefetch(b); }

  const Packed<Isa, kType, OneTokenStream::kTwo>& weights;
  const int64_t b;
};

// kLanes rows of one part and of another, or of the same, for one token.
template <typename Isa, DType kType>
void QuantRowsInTurn(const LinearParams& p, const LinearPart& part, int64_t row,
                     const LinearPart& other_part, int64_t other_row) {
  const auto weights_of = [&p](const LinearPart& of, int64_t first) {
    const auto* group = reinterpret_cast<const uint8_t*>(of.weight.data) +
                        first / kPackedRows * PackedGroupBytes(kType, p.in_features);
    return Packed<Isa, kType, OneTokenStream::kTwo>(group, first % kPackedRows, p.in_features);
  };
  const auto weights = weights_of(part, row);
  const auto other_weights = weights_of(other_part, other_row);
  const auto* panel = reinterpret_cast<const PanelBlock<1>*>(p.workspace);
  typename Isa::F sums[1] = {}, other_sums[1] = {};
  for (int64_t b = 0; b < p.in_features / 32; ++b) {
    AddBlocks<Isa, kType, 1>(BlockInTurn<Isa, kType>{weights, b}, panel + b, 1, sums);
    AddBlocks<Isa, kType, 1>(BlockInTurn<Isa, kType>{other_weights, b}, panel + b, 1, other_sums);
  }
  StoreSums<Isa>(OutputRowsOf(part, row), 0, true, sums);
  StoreSums<Isa>(OutputRowsOf(other_part, other_row), 0, true, other_sums);
}

// kLanes rows from `row` on, for tokens [begin, end): whole panels but for the last of all.
template <typename Isa, DType kType>
void QuantRows(const LinearParams& p, const LinearPart& part, int64_t row, int64_t begin,
               int64_t end) {
  const int64_t cols = p.in_features;
  const auto* group = reinterpret_cast<const uint8_t*>(part.weight.data) +
                      row / kPackedRows * PackedGroupBytes(kType, cols);
  const OutputRows out = OutputRowsOf(part, row);
  if (p.num_tokens == 1 && StreamOfOneToken<Isa>(p.one_token) == OneTokenStream::kOnce) {
    typename Isa::F sums[1] = {};
    AddBlocks<Isa, kType, 1>(
        Packed<Isa, kType, OneTokenStream::kOnce>(group, row % kPackedRows, cols),
        reinterpret_cast<const PanelBlock<1>*>(p.workspace), cols / 32, sums);
    return StoreSums<Isa>(out, 0, true, sums);
  }
  const Packed<Isa, kType> weights(group, row % kPackedRows, cols);
  if (end - begin <= kMostTokensWithoutTile) {
    return MeetPanels<Isa, kType>(weights, 0, cols / 32, p, begin, end, out);
  }
  WeightTile<Isa, kType> tile;
  const int64_t num_tiles = (cols + kTileColumns - 1) / kTileColumns;
  const int64_t width = (cols / 32 + num_tiles - 1) / num_tiles;
  for (int64_t first = 0; first < cols / 32; first += width) {
    const int64_t num_blocks = MinOf(width, cols / 32 - first);
    FillTile(weights, first, num_blocks, &tile);
    MeetPanels<Isa, kType>(tile, first, num_blocks, p, begin, end, out);
  }
}

}  // namespace
}  // namespace mili::kernels

// Linear with BF16 weights packed as integers (kernels/cpu/packed_words.h), for instruction sets
// that multiply and add pairs of 16-bit integers: as fast as pairs of BF16 are, and activations
// keep 13 bits of their block's largest instead of 8 of their own. They are integers within +-8191
// times their block's largest / 8191. Sum of one output, for every number of tokens beside it: over
// blocks of 32 columns in order, sum = fma(dot * x_scale, unit, sum) with the block's integer dot
// product.
#pragma once

#include "kernels/cpu/linear_output_inl.h"
#include "kernels/cpu/packed_words.h"
#include "kernels/cpu/panel_inl.h"
#include "kernels/cpu/unpack_inl.h"

namespace mili::kernels {
namespace {

constexpr int kWordPairs = 16;
// Weights are within +-8160: 32 products and their sums stay below 2^31.
constexpr int kMaxWord = 8191;

// kTokens tokens' block of columns.
template <int kTokens>
struct WordPanelBlock {
  int32_t q[kWordPairs][kTokens];  // two columns each
  float scale[kTokens];
};

constexpr int64_t kWordBytesAToken = sizeof(WordPanelBlock<1>);
static_assert(kWordBytesAToken == 68);

MILI_INLINE int64_t WordTokenBytes(int64_t cols) { return NumWordBlocks(cols) * kWordBytesAToken; }

// Writes columns [begin, end) of token t into a panel of kTokens at `panel`; zeros fill the last
// block.
template <typename Isa, int kTokens>
void WordToken(const float* x, int64_t begin, int64_t end, int t, std::byte* panel) {
  auto* block = reinterpret_cast<WordPanelBlock<kTokens>*>(panel) + begin / kWordColumns;
  for (int64_t i = begin; i < end; i += kWordColumns, ++block) {
    float rest[kWordColumns] = {};
    const float* from = x + i;
    if (end - i < kWordColumns) {
      __builtin_memcpy(rest, from, (end - i) * sizeof(float));
      from = rest;
    }
    const BlockScale scale = ScaleOf<Isa, kWordColumns, kMaxWord>(from);
    int16_t words[kWordColumns];
    for (int64_t j = 0; j < kWordColumns; j += Isa::kLanes) {
      Isa::StoreWords(words + j, RoundScaled<Isa>(from + j, scale));
    }
    for (int j = 0; j < kWordPairs; ++j) {
      __builtin_memcpy(&block->q[j][t], words + 2 * j, sizeof(int32_t));
    }
    block->scale[t] = scale.unit;
  }
}

// Adds `num_blocks` blocks of kLanes rows to the sums of kTokens tokens.
template <typename Isa, int kTokens>
MILI_INLINE void AddWords(const uint8_t* exponents, const uint8_t* weights, int64_t num_blocks,
                          const WordPanelBlock<kTokens>* panel, typename Isa::F (&sums)[kTokens]) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  for (int64_t b = 0; b < num_blocks; ++b) {
    const WordPanelBlock<kTokens>& x = panel[b];
    I dots[kTokens] = {};
    __builtin_prefetch(exponents + b * kPackedRows + 256);
#pragma GCC unroll 16
    for (int i = 0; i < kWordPairs; ++i) {
      const uint8_t* from = weights + b * kWordBlockBytes + 64 * i;
      __builtin_prefetch(from + kPrefetchBytes);
      const I w = LoadAs<I>(from);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        dots[t] = Isa::DotWords(dots[t], w, LoadAs<int32_t>(&x.q[i][t]));
      }
    }
    const F unit = reinterpret_cast<F>(Isa::LoadBytes(exponents + b * kPackedRows) << 23);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = Isa::Fma(ToF<Isa>(dots[t]) * Broadcast<Isa>(x.scale[t]), unit, sums[t]);
    }
  }
}

// Blocks whose weights stay in L1 while every panel meets them.
constexpr int64_t kWordTileBlocks = 16;

// kLanes rows from `row` on, for tokens [begin, end): whole panels but for the last of all.
template <typename Isa>
void WordRows(const LinearParams& p, const LinearPart& part, int64_t row, int64_t begin,
              int64_t end) {
  const int64_t cols = p.in_features;
  const auto* group =
      reinterpret_cast<const uint8_t*>(part.weight.data) + row / kPackedRows * WordGroupBytes(cols);
  const uint8_t* exponents = group + row % kPackedRows;
  const uint8_t* weights = group + WordExponentBytes(cols) + row % kPackedRows * 4;
  const OutputRows out = OutputRowsOf(part, row);
  const int64_t num_blocks = NumWordBlocks(cols);
  const int64_t width = end - begin <= Isa::kTokenTile ? num_blocks : kWordTileBlocks;
  for (int64_t first = 0; first < num_blocks; first += width) {
    const int64_t count = MinOf(width, num_blocks - first);
    ForEachPanel<Isa::kTokenTile>(begin, end, p.num_tokens, [&](int64_t token, auto size) {
      constexpr int kTokens = decltype(size)::kValue;
      const auto* panel = reinterpret_cast<const WordPanelBlock<kTokens>*>(
          p.workspace + token * WordTokenBytes(cols));
      typename Isa::F sums[kTokens];
      LoadSums<Isa>(out, token, first == 0, sums);
      AddWords<Isa, kTokens>(exponents + first * kPackedRows, weights + first * kWordBlockBytes,
                             count, panel + first, sums);
      StoreSums<Isa>(out, token, first + count == num_blocks, sums);
    });
  }
}

}  // namespace
}  // namespace mili::kernels

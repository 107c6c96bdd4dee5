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

// The weights of kLanes rows.
struct WordWeights {
  const uint8_t* exponents;
  const uint8_t* words;
};

MILI_INLINE WordWeights WordWeightsOf(const LinearPart& part, int64_t row) {
  const int64_t cols = part.weight.cols;
  const auto* group =
      reinterpret_cast<const uint8_t*>(part.weight.data) + row / kPackedRows * WordGroupBytes(cols);
  return {group + row % kPackedRows, group + WordExponentBytes(cols) + row % kPackedRows * 4};
}

// Adds `num_blocks` blocks of kVectors times kLanes rows to the sums of kTokens tokens. kIsOnce:
// see OneTokenStream.
template <typename Isa, int kTokens, int kVectors, bool kIsOnce = false>
MILI_INLINE void AddWords(const WordWeights (&weights)[kVectors], int64_t num_blocks,
                          const WordPanelBlock<kTokens>* panel,
                          typename Isa::F (&sums)[kVectors][kTokens]) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  for (int64_t b = 0; b < num_blocks; ++b) {
    const WordPanelBlock<kTokens>& x = panel[b];
    I dots[kVectors][kTokens] = {};
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      __builtin_prefetch(weights[v].exponents + b * kPackedRows + 256);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWordPairs; ++i) {
      I w[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const uint8_t* from = weights[v].words + b * kWordBlockBytes + 64 * i;
        constexpr int64_t kAhead =
            kIsOnce ? PrefetchBytesOf(OneTokenStream::kOnce) : kPrefetchBytes;
        __builtin_prefetch(from + kAhead, 0, kIsOnce ? 0 : 3);
        w[v] = LoadAs<I>(from);
      }
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const auto two = LoadAs<int32_t>(&x.q[i][t]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) dots[v][t] = Isa::DotWords(dots[v][t], w[v], two);
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const F unit =
          reinterpret_cast<F>(Isa::LoadBytes(weights[v].exponents + b * kPackedRows) << 23);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        sums[v][t] = Isa::Fma(ToF<Isa>(dots[v][t]) * Broadcast<Isa>(x.scale[t]), unit, sums[v][t]);
      }
    }
  }
}

// kVectors times kLanes rows from `row` on, for tokens [begin, end): whole panels but for the last
// of all. Where panels follow each other, these rows stay in L2: keeping part of their columns in
// L1 costs more, since the sums then come and go.
template <typename Isa, int kVectors>
void WordRows(const LinearParams& p, const LinearPart& part, int64_t row, int64_t begin,
              int64_t end) {
  WordWeights weights[kVectors];
  for (int v = 0; v < kVectors; ++v) weights[v] = WordWeightsOf(part, row + v * Isa::kLanes);
  if constexpr (kVectors == 1) {
    if (p.num_tokens == 1 && StreamOfOneToken<Isa>(p.one_token) == OneTokenStream::kOnce) {
      typename Isa::F sums[1][1] = {};
      AddWords<Isa, 1, 1, true>(weights, NumWordBlocks(p.in_features),
                                reinterpret_cast<const WordPanelBlock<1>*>(p.workspace), sums);
      return StoreSums<Isa>(OutputRowsOf(part, row), 0, true, sums[0]);
    }
  }
  ForEachPanel<Isa::kTokenTile>(begin, end, p.num_tokens, [&](int64_t token, auto size) {
    constexpr int kTokens = decltype(size)::kValue;
    const auto* panel = reinterpret_cast<const WordPanelBlock<kTokens>*>(
        p.workspace + token * WordTokenBytes(p.in_features));
    typename Isa::F sums[kVectors][kTokens] = {};
    AddWords<Isa, kTokens, kVectors>(weights, NumWordBlocks(p.in_features), panel, sums);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      StoreSums<Isa>(OutputRowsOf(part, row + v * Isa::kLanes), token, true, sums[v]);
    }
  });
}

}  // namespace
}  // namespace mili::kernels

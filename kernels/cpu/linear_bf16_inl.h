// Linear with packed BF16 weights for instruction sets that multiply pairs of BF16. Activations are
// rounded to BF16, to nearest even. Sum of one output, for every number of tokens beside it: over
// runs of 512 columns in order, the sum of their even pairs plus that of their odd pairs.
#pragma once

#include "kernels/cpu/linear_output_inl.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/panel_inl.h"
#include "kernels/cpu/unpack_inl.h"

namespace mili::kernels {
namespace {

// Whole tiles of 32 columns, see kernels/cpu/linear_tiles_inl.h.
MILI_INLINE int64_t Bf16TokenBytes(int64_t cols) { return (cols + 31) / 32 * 64; }

// Writes token t of a panel of kTokens at `panel`: [pairs of columns][kTokens].
template <typename Isa, int kTokens>
void RoundToken(const float* x, int64_t cols, int t, std::byte* panel) {
  for (int64_t i = 0; i < cols; i += Isa::kLanes) {
    const int64_t count = MinOf(cols - i, Isa::kLanes);
    uint32_t pairs[Isa::kLanes / 2];
    Isa::StoreBf16(pairs, count == Isa::kLanes ? LoadF<Isa>(x + i) : LoadFirst<Isa>(x + i, count));
    for (int64_t j = 0; j < (count + 1) / 2; ++j) {
      __builtin_memcpy(panel + ((i / 2 + j) * kTokens + t) * 4, &pairs[j], 4);
    }
  }
}

// Pairs of columns whose weights and panel stay in L1 while every panel meets them.
constexpr int64_t kBf16TilePairs = 256;

// Two sums a token, of the even and the odd pairs: one alone would wait for each product.
template <typename Isa, int kTokens>
MILI_INLINE void AddPairs(const uint8_t* weights, const std::byte* panel, int64_t num_pairs,
                          typename Isa::F (&sums)[kTokens]) {
  typename Isa::F odd[kTokens] = {};
  const auto add = [&](int64_t i, typename Isa::F* to) {
    const auto w = LoadAs<typename Isa::I>(weights + 64 * i);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      to[t] = Isa::DotBf16(to[t], w, LoadAs<int32_t>(panel + (i * kTokens + t) * 4));
    }
  };
  int64_t i = 0;
  for (; i + 2 <= num_pairs; i += 2) {
    __builtin_prefetch(weights + 64 * i + kPrefetchBytes);
    __builtin_prefetch(weights + 64 * i + kPrefetchBytes + 64);
    add(i, sums);
    add(i + 1, odd);
  }
  if (i < num_pairs) add(i, sums);
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) sums[t] += odd[t];
}

// kLanes rows from `row` on, for tokens [begin, end): whole panels but for the last of all.
template <typename Isa>
void Bf16Rows(const LinearParams& p, const LinearPart& part, int64_t row, int64_t begin,
              int64_t end) {
  const int64_t cols = p.in_features;
  const auto* weights = reinterpret_cast<const uint8_t*>(part.weight.data) +
                        row / kPackedRows * PackedGroupBytes(DType::kBF16, cols) +
                        row % kPackedRows * 4;
  const OutputRows out = OutputRowsOf(part, row);
  const int64_t num_pairs = (cols + 1) / 2;
  for (int64_t first = 0; first < num_pairs; first += kBf16TilePairs) {
    const int64_t count = MinOf(kBf16TilePairs, num_pairs - first);
    ForEachPanel<Isa::kBf16Tokens>(begin, end, p.num_tokens, [&](int64_t token, auto size) {
      constexpr int kTokens = decltype(size)::kValue;
      typename Isa::F sums[kTokens], tile[kTokens] = {};
      LoadSums<Isa>(out, token, first == 0, sums);
      const std::byte* panel = p.workspace + token * Bf16TokenBytes(cols);
      AddPairs<Isa>(weights + 64 * first, panel + first * kTokens * 4, count, tile);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) sums[t] += tile[t];
      StoreSums<Isa>(out, token, first + count == num_pairs, sums);
    });
  }
}

}  // namespace
}  // namespace mili::kernels

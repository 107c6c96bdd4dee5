// Linear with packed BF16 weights for instruction sets that multiply pairs of BF16. Activations are
// rounded to BF16, to nearest even; pairs of columns are added in order to one fp32 sum, whatever
// the number of tokens beside it.
#pragma once

#include "kernels/cpu/linear_output_inl.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/panel_inl.h"
#include "kernels/cpu/unpack_inl.h"

namespace mili::kernels {
namespace {

MILI_INLINE int64_t Bf16TokenBytes(int64_t cols) { return (cols + 1) / 2 * 4; }

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

template <typename Isa, int kTokens>
MILI_INLINE void AddPairs(const uint8_t* weights, const std::byte* panel, int64_t num_pairs,
                          typename Isa::F (&sums)[kTokens]) {
  for (int64_t i = 0; i < num_pairs; ++i) {
    __builtin_prefetch(weights + 64 * i + kPrefetchBytes);
    const auto w = LoadAs<typename Isa::I>(weights + 64 * i);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = Isa::DotBf16(sums[t], w, LoadAs<int32_t>(panel + (i * kTokens + t) * 4));
    }
  }
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
  ForEachPanel<Isa::kBf16Tokens>(begin, end, p.num_tokens, [&](int64_t token, auto size) {
    typename Isa::F sums[decltype(size)::kValue] = {};
    AddPairs<Isa>(weights, p.workspace + token * Bf16TokenBytes(cols), (cols + 1) / 2, sums);
    StoreSums<Isa>(out, token, true, sums);
  });
}

}  // namespace
}  // namespace mili::kernels

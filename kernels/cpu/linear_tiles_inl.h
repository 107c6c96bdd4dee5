// Linear with packed BF16 weights on AMX tiles. An activation is the sum of two BF16, itself
// rounded and what that leaves, rounded; a tile instruction adds 32 columns of one of them to an
// output at once, its sums of the even and of the odd columns apart, so one output has the same
// bits whatever the number of tokens and rows beside it. Tiles 0-3 hold the sums of up to 64 tokens
// and 16 rows, 4 and 5 activations (5: those of the last tokens), 6 weights, whose packed form is
// what the instruction wants.
#pragma once

#include "kernels/cpu/linear_output_inl.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/unpack_inl.h"

namespace mili::kernels {
namespace {

constexpr int kTileTokens = 16;
constexpr int kMaxTokenTiles = 4;
constexpr int64_t kTileColumnsOfBf16 = 32;
constexpr int64_t kTileBytes = 1024;

template <typename Isa>
concept HasTiles = requires {
  typename Isa::Tiles;
};

// Whole tiles, 64 bytes of rounded activations and 64 of what that leaves in turn.
MILI_INLINE int64_t TileTokenBytes(int64_t cols) {
  return (cols + kTileColumnsOfBf16 - 1) / kTileColumnsOfBf16 * 128;
}

// Writes columns [begin, end) of a token, whose first is at `to`, with zeros up to whole tiles.
template <typename Isa>
void SplitRow(const float* x, int64_t begin, int64_t end, std::byte* to) {
  using F = typename Isa::F;
  to += TileTokenBytes(begin);
  for (int64_t first = begin; first < end; first += kTileColumnsOfBf16, to += 128) {
    for (int64_t i = 0; i < kTileColumnsOfBf16; i += Isa::kLanes) {
      const int64_t left = MaxOf(end - first - i, 0);
      const F v = left >= Isa::kLanes ? LoadF<Isa>(x + first + i)
                                      : LoadFirst<Isa>(left > 0 ? x + first + i : x, left);
      Isa::StoreBf16(to + 2 * i, v);
      Isa::StoreBf16(to + 64 + 2 * i, v - Isa::LoadBf16(to + 2 * i));
    }
  }
}

// 16 rows for kTiles tiles of tokens, of which the last has `num_last`.
template <typename Isa, int kTiles>
void MultiplyTiles(const uint8_t* weights, const std::byte* x, int64_t cols, int num_last,
                   float* sums) {
  typename Isa::Tiles tiles(kTiles, num_last);
  const int64_t stride = TileTokenBytes(cols);
  const int64_t num_pairs = (cols + 1) / 2;
  alignas(64) uint8_t rest[kTileBytes];
  for (int64_t first = 0; first < num_pairs; first += 16, x += 128, weights += kTileBytes) {
    const int64_t left = num_pairs - first;
    const uint8_t* w = weights;
    if (left < 16) {
      // What follows the matrix is not to be multiplied, not even by zero.
      __builtin_memset(rest, 0, sizeof(rest));
      __builtin_memcpy(rest, weights, left * 64);
      w = rest;
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) __builtin_prefetch(weights + 64 * i + kPrefetchBytes);
    }
    tiles.template Add<kTiles>(w, x, stride);
  }
  tiles.template Store<kTiles>(sums);
}

// 16 rows from `row` on, for tokens [begin, end).
template <typename Isa>
void TileRows(const LinearParams& p, const LinearPart& part, int64_t row, int64_t begin,
              int64_t end) {
  const int64_t cols = p.in_features;
  const auto* weights = reinterpret_cast<const uint8_t*>(part.weight.data) +
                        row / kPackedRows * PackedGroupBytes(DType::kBF16, cols);
  const OutputRows out = OutputRowsOf(part, row);
  alignas(64) float sums[kMaxTokenTiles * kTileTokens * Isa::kLanes];
  for (int64_t token = begin; token < end; token += kMaxTokenTiles * kTileTokens) {
    const auto num_tokens = static_cast<int>(MinOf(end - token, kMaxTokenTiles * kTileTokens));
    const int num_tiles = (num_tokens + kTileTokens - 1) / kTileTokens;
    const int num_last = num_tokens - (num_tiles - 1) * kTileTokens;
    const std::byte* x = p.workspace + token * TileTokenBytes(cols);
    switch (num_tiles) {
      case 1:
        MultiplyTiles<Isa, 1>(weights, x, cols, num_last, sums);
        break;
      case 2:
        MultiplyTiles<Isa, 2>(weights, x, cols, num_last, sums);
        break;
      case 3:
        MultiplyTiles<Isa, 3>(weights, x, cols, num_last, sums);
        break;
      default:
        MultiplyTiles<Isa, 4>(weights, x, cols, num_last, sums);
    }
    for (int t = 0; t < num_tokens; ++t) {
      typename Isa::F sum[1] = {LoadF<Isa>(sums + t * Isa::kLanes)};
      StoreSums<Isa>(out, token + t, true, sum);
    }
  }
}

}  // namespace
}  // namespace mili::kernels

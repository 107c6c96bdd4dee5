// Linear with quantised weights. kLanes rows are decoded once into a tile on the stack (L1) and
// then meet every token. Sum of one output, for every batch size: over blocks of 16 of K in order,
// sum = fma(integer dot, d * x_scale, sum), and for types with a minimum, after each two of them,
// sum = fma(m, x_sum, sum).
#pragma once

#include "kernels/cpu/decode_inl.h"
#include "kernels/cpu/quantize_inl.h"
#include "kernels/params.h"

namespace mili::kernels {
namespace {

constexpr int64_t kTileElements = 1024;  // of K: 16 KB of weights with 16 lanes

template <typename Isa>
struct WeightTile {
  typename Isa::I w[kTileElements / 4];
  typename Isa::F d[kTileElements / 16];
  typename Isa::F m[kTileElements / 32];
};

// Adds the tile's share to the sums of kTokens tokens. `first` is the tile's place in K.
template <typename Isa, typename Q, int kTokens>
MILI_INLINE void DotTile(const WeightTile<Isa>& tile, const QuantizedRow* rows, int64_t first,
                         int64_t width, typename Isa::F* sums) {
  using I = typename Isa::I;
  using F = typename Isa::F;
  for (int64_t g = 0; g < width / 32; ++g) {
#pragma GCC unroll 2
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t block = first / 16 + 2 * g + half;  // of activations
      I dots[kTokens];
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        dots[t] = I{};
        if constexpr (Q::kOffset != 0) dots[t] = I{} - Q::kOffset * rows[t].sum16[block];
      }
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const I w = tile.w[8 * g + 4 * half + j];
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const int32_t x = LoadAs<int32_t>(rows[t].q + 16 * block + 4 * j);
          dots[t] = Q::kSigned ? Isa::DotSigned(dots[t], w, x) : Isa::Dot(dots[t], w, x);
        }
      }
      const F d = tile.d[(32 * g + 16 * half) / Q::kScaleElements];
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        sums[t] = Isa::Fma(ToF<Isa>(dots[t]), d * rows[t].scale[block], sums[t]);
      }
    }
    if constexpr (Q::kHasMin) {
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const F x_sum = Broadcast<Isa>(rows[t].sum[first / 32 + g]);
        sums[t] = Isa::Fma(tile.m[g], x_sum, sums[t]);
      }
    }
  }
}

// Where a group of kLanes rows goes.
struct OutputGroup {
  float* y;  // of the first token and row
  int64_t y_stride;
  const float* bias;  // of the first row, or null
  int64_t num_rows;   // valid ones, up to kLanes
};

template <typename Isa, typename Q, int kTokens>
MILI_INLINE void TokensOfTile(const WeightTile<Isa>& tile, const LinearParams& p, int64_t token,
                              int64_t first, int64_t width, const OutputGroup& out) {
  typename Isa::F sums[kTokens];
  QuantizedRow rows[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    rows[t] = RowAt(p.workspace, token + t, p.in_features);
    const float* y = out.y + (token + t) * out.y_stride;
    sums[t] = first == 0 ? typename Isa::F{} : LoadFirst<Isa>(y, out.num_rows);
  }
  DotTile<Isa, Q, kTokens>(tile, rows, first, width, sums);
  const bool add_bias = out.bias != nullptr && first + width == p.in_features;
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    if (add_bias) sums[t] += LoadFirst<Isa>(out.bias, out.num_rows);
    StoreFirst<Isa>(out.y + (token + t) * out.y_stride, sums[t], out.num_rows);
  }
}

template <typename Isa, typename Q>
void MeetTokens(const WeightTile<Isa>& tile, const LinearParams& p, int64_t begin, int64_t end,
                int64_t first, int64_t width, const OutputGroup& out) {
  int64_t t = begin;
  if constexpr (Isa::kTokenTile >= 8) {
    for (; t + 8 <= end; t += 8) TokensOfTile<Isa, Q, 8>(tile, p, t, first, width, out);
  }
  for (; t + 4 <= end; t += 4) TokensOfTile<Isa, Q, 4>(tile, p, t, first, width, out);
  if (t + 2 <= end) {
    TokensOfTile<Isa, Q, 2>(tile, p, t, first, width, out);
    t += 2;
  }
  if (t < end) TokensOfTile<Isa, Q, 1>(tile, p, t, first, width, out);
}

// Decodes `width` elements, from `first` on, of kLanes rows at `data`; with fewer valid rows, from
// a copy that stands in for the missing ones.
template <typename Isa, typename Q>
void FillTile(const uint8_t* data, int64_t stride, int64_t num_rows, int64_t first, int64_t width,
              WeightTile<Isa>* tile) {
  constexpr int64_t kMaxBytes = kTileElements / Q::kStep * Q::kBlockBytes;
  constexpr int64_t kGroupBytes = Isa::kLanes * Q::kBlockBytes;
  const int64_t first_block = first / Q::kStep;
  // The rows lie one behind the other, so the next group of rows is just ahead.
  const uint8_t* next = data + Isa::kLanes * stride + first_block * kGroupBytes;
  data += first_block * Q::kBlockBytes;
  uint8_t copy[Isa::kLanes * kMaxBytes];
  if (num_rows < Isa::kLanes) {
    __builtin_memset(copy, 0, sizeof(copy));
    for (int64_t r = 0; r < num_rows; ++r) {
      __builtin_memcpy(copy + r * kMaxBytes, data + r * stride, width / Q::kStep * Q::kBlockBytes);
    }
    data = copy;
    stride = kMaxBytes;
  }
  for (int64_t i = 0; i < width / Q::kStep; ++i) {
    for (int64_t b = 0; b < kGroupBytes; b += 64) __builtin_prefetch(next + i * kGroupBytes + b);
    Q::Decode(data + i * Q::kBlockBytes, stride, tile->w + i * (Q::kStep / 4),
              tile->d + i * (Q::kStep / Q::kScaleElements),
              tile->m + i * (Q::kStep / Q::kScaleElements));
  }
}

// Rows [begin, end) of a part for tokens [first_token, last_token).
template <typename Isa, typename Q>
void QuantRows(const LinearParams& p, const LinearPart& part, int64_t begin, int64_t end,
               int64_t first_token, int64_t last_token) {
  const int64_t k = part.weight.cols;
  const int64_t stride = k / Q::kStep * Q::kBlockBytes;
  const auto* data = reinterpret_cast<const uint8_t*>(part.weight.data);
  WeightTile<Isa> tile;
  for (int64_t row = begin; row < end; row += Isa::kLanes) {
    const OutputGroup out = {part.y + row, part.y_stride,
                             part.bias == nullptr ? nullptr : part.bias + row,
                             MinOf(Isa::kLanes, end - row)};
    for (int64_t first = 0; first < k; first += kTileElements) {
      const int64_t width = MinOf(kTileElements, k - first);
      FillTile<Isa, Q>(data + row * stride, stride, out.num_rows, first, width, &tile);
      MeetTokens<Isa, Q>(tile, p, first_token, last_token, first, width, out);
    }
  }
}

}  // namespace
}  // namespace mili::kernels

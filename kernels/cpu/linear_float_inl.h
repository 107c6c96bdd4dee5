// Linear with fp32, fp16 or bf16 weights and fp32 activations. Sum of one output, for every batch
// size: element k goes to lane k % kLanes by fma, the lanes are added once at the end.
#pragma once

#include "kernels/cpu/vec.h"
#include "kernels/params.h"

namespace mili::kernels {
namespace {

template <typename Isa>
struct F32Weights {
  static constexpr int kBytes = 4;
  static MILI_INLINE typename Isa::F Load(const uint8_t* p) { return LoadAs<typename Isa::F>(p); }
};

template <typename Isa>
struct F16Weights {
  static constexpr int kBytes = 2;
  static MILI_INLINE typename Isa::F Load(const uint8_t* p) { return Isa::LoadHalf(p); }
};

template <typename Isa>
struct Bf16Weights {
  static constexpr int kBytes = 2;
  static MILI_INLINE typename Isa::F Load(const uint8_t* p) { return Isa::LoadBf16(p); }
};

// kRows rows x kTokens tokens. `w` is the first row, `x` the first token, `y` their output. With
// kPrefetch the rows behind these, which come next, are called for.
template <typename Isa, typename W, int kRows, int kTokens, bool kPrefetch>
void FloatTile(const uint8_t* w, const float* x, int64_t k, float* y, int64_t y_stride,
               const float* bias) {
  using F = typename Isa::F;
  F sums[kRows][kTokens] = {};
  const int64_t whole = k / Isa::kLanes * Isa::kLanes;
  for (int64_t i = 0; i < whole; i += Isa::kLanes) {
    if constexpr (kPrefetch) {
      const uint8_t* next = w + kRows * (k + i) * W::kBytes;
#pragma GCC unroll 8
      for (int b = 0; b < kRows * Isa::kLanes * W::kBytes; b += 64) __builtin_prefetch(next + b);
    }
    F xs[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) xs[t] = LoadF<Isa>(x + t * k + i);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F weights = W::Load(w + (r * k + i) * W::kBytes);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) sums[r][t] = Isa::Fma(weights, xs[t], sums[r][t]);
    }
  }
  if (whole < k) {
    for (int r = 0; r < kRows; ++r) {
      uint8_t rest[Isa::kLanes * W::kBytes] = {};
      __builtin_memcpy(rest, w + (r * k + whole) * W::kBytes, (k - whole) * W::kBytes);
      for (int t = 0; t < kTokens; ++t) {
        const F xs = LoadFirst<Isa>(x + t * k + whole, k - whole);
        sums[r][t] = Isa::Fma(W::Load(rest), xs, sums[r][t]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const float sum = Isa::ReduceAdd(sums[r][t]);
      y[t * y_stride + r] = bias == nullptr ? sum : sum + bias[r];
    }
  }
}

template <typename Isa, typename W, int kRows>
void FloatRowGroup(const LinearParams& p, const LinearPart& part, int64_t row, int64_t first_token,
                   int64_t last_token) {
  const int64_t k = part.weight.cols;
  const auto* w = reinterpret_cast<const uint8_t*>(part.weight.data) + row * k * W::kBytes;
  const float* bias = part.bias == nullptr ? nullptr : part.bias + row;
  const auto tile = [&](auto run, int64_t t) {
    run(w, p.x + t * k, k, part.y + t * part.y_stride + row, part.y_stride, bias);
  };
  int64_t t = first_token;
  if (last_token - t < Isa::kFloatTokens) {
    tile(FloatTile<Isa, W, kRows, 1, true>, t++);
  } else {
    tile(FloatTile<Isa, W, kRows, Isa::kFloatTokens, true>, t);
    t += Isa::kFloatTokens;
  }
  for (; t + Isa::kFloatTokens <= last_token; t += Isa::kFloatTokens) {
    tile(FloatTile<Isa, W, kRows, Isa::kFloatTokens, false>, t);
  }
  for (; t < last_token; ++t) tile(FloatTile<Isa, W, kRows, 1, false>, t);
}

// Rows [begin, end) of a part for tokens [first_token, last_token).
template <typename Isa, typename W>
void FloatRows(const LinearParams& p, const LinearPart& part, int64_t begin, int64_t end,
               int64_t first_token, int64_t last_token) {
  int64_t row = begin;
  for (; row + Isa::kFloatRows <= end; row += Isa::kFloatRows) {
    FloatRowGroup<Isa, W, Isa::kFloatRows>(p, part, row, first_token, last_token);
  }
  for (; row < end; ++row) FloatRowGroup<Isa, W, 1>(p, part, row, first_token, last_token);
}

}  // namespace
}  // namespace mili::kernels

// Activations as int8, laid out for the dot products: panels of up to kTokenTile tokens, in which
// the tokens' share of a block of 32 columns lies together. Blocks of 16 have one fp32 scale,
// amax / 127: blocks of 32, as the weights have, take fewer instructions but err by a third more
// (mean |dlogprob| 0.052 against 0.039 on SmolLM2).
#pragma once

#include "kernels/cpu/lanes_inl.h"

namespace mili::kernels {
namespace {

// kTokens tokens' block of 32 columns.
template <int kTokens>
struct PanelBlock {
  int8_t q[kTokens][32];
  float scale[kTokens][2];    // of each half
  int32_t sum16[kTokens][2];  // of q, of each half
  float sum[kTokens];         // of what q stands for
};

constexpr int64_t kPanelBytesAToken = 52;
static_assert(sizeof(PanelBlock<1>) == kPanelBytesAToken);

MILI_INLINE int64_t PanelTokenBytes(int64_t cols) { return cols / 32 * kPanelBytesAToken; }

// What turns a block of activations into integers: they are x * inverse, rounded, and stand for
// themselves times unit.
struct BlockScale {
  float unit;
  float inverse;
  bool is_finite;
};

// So that kCount elements become integers within +-kMax. A block with a NaN or an infinity gets the
// unit NaN, so that its row fails alone and visibly.
template <typename Isa, int kCount, int kMax>
MILI_INLINE BlockScale ScaleOf(const float* x) {
  using I = typename Isa::I;
  I largest = {};
  for (int i = 0; i < kCount / Isa::kLanes; ++i) {
    const I bits = LoadAs<I>(x + i * Isa::kLanes) & 0x7fffffff;
    largest = bits > largest ? bits : largest;  // as integers a NaN is above all
  }
  const int32_t max_bits = Isa::ReduceMaxInt(largest);
  const bool is_finite = max_bits < 0x7f800000;
  float max;
  __builtin_memcpy(&max, &max_bits, sizeof(max));
  constexpr auto kLargest = static_cast<float>(kMax);
  // Below 1e-34 the inverse would overflow: such a block is 0.
  return {is_finite ? max / kLargest : __builtin_nanf(""),
          is_finite && max > 1e-34f ? kLargest / max : 0.0f, is_finite};
}

template <typename Isa>
MILI_INLINE typename Isa::I RoundScaled(const float* x, const BlockScale& scale) {
  using F = typename Isa::F;
  const F shifted = (scale.is_finite ? LoadF<Isa>(x) : F{}) * scale.inverse + 12582912.0f;
  return reinterpret_cast<typename Isa::I>(shifted) - 0x4B400000;
}

// Quantises 16 elements and returns their sum as int8.
template <typename Isa>
MILI_INLINE int32_t QuantizeBlock(const float* x, int8_t* q, float* block_scale) {
  const BlockScale scale = ScaleOf<Isa, 16, 127>(x);
  *block_scale = scale.unit;
  typename Isa::I sum = {};
  for (int i = 0; i < 16; i += Isa::kLanes) {
    const typename Isa::I rounded = RoundScaled<Isa>(x + i, scale);
    Isa::StoreBytes(q + i, rounded);
    sum += rounded;
  }
  return Isa::ReduceAddInt(sum);
}

// The same for kLanes blocks of 16 elements at a time, as token t of panel blocks of 32 from
// `block` on. False, and nothing is written, where an element is no finite number.
template <typename Isa, int kTokens>
MILI_INLINE bool QuantizeBlocks(const float* x, int t, PanelBlock<kTokens>* block) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  constexpr int kCount = Isa::kLanes;
  I rows[kCount];
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    rows[i] = I{};
    for (int j = 16 * i; j < 16 * (i + 1); j += Isa::kLanes) {
      const I bits = LoadAs<I>(x + j) & 0x7fffffff;
      rows[i] = bits > rows[i] ? bits : rows[i];
    }
  }
  const I max_bits = ReduceRows<Isa>(rows, [](I a, I b) { return a > b ? a : b; });
  if (Isa::ReduceMaxInt(max_bits) >= 0x7f800000) return false;
  const F max = reinterpret_cast<F>(max_bits);
  const F unit = max / 127.0f;
  float inverse[kCount];
  StoreAs(inverse, max > 1e-34f ? 127.0f / max : F{});
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    rows[i] = I{};
    for (int j = 0; j < 16; j += Isa::kLanes) {
      const I rounded = RoundScaled<Isa>(x + 16 * i + j, {0, inverse[i], true});
      Isa::StoreBytes(block[i / 2].q[t] + i % 2 * 16 + j, rounded);
      rows[i] += rounded;
    }
  }
  const I sum = ReduceRows<Isa>(rows, [](I a, I b) { return a + b; });
  int32_t sums[kCount];
  float units[kCount];
  float values[kCount];
  StoreAs(sums, sum);
  StoreAs(units, unit);
  StoreAs(values, unit * ToF<Isa>(sum));
  for (int i = 0; i < kCount; i += 2) {
    PanelBlock<kTokens>& to = block[i / 2];
    __builtin_memcpy(to.scale[t], units + i, sizeof(to.scale[t]));
    __builtin_memcpy(to.sum16[t], sums + i, sizeof(to.sum16[t]));
    to.sum[t] = values[i] + values[i + 1];
  }
  return true;
}

// Writes columns [begin, end) of token t, whole blocks, into a panel of kTokens at `panel`.
template <typename Isa, int kTokens>
void QuantizeToken(const float* x, int64_t begin, int64_t end, int t, std::byte* panel) {
  constexpr int64_t kManyBlocks = Isa::kLanes / 2;  // of 32
  auto* block = reinterpret_cast<PanelBlock<kTokens>*>(panel);
  for (int64_t b = begin / 32; b < end / 32;) {
    if (b + kManyBlocks <= end / 32 && QuantizeBlocks<Isa>(x + 32 * b, t, block + b)) {
      b += kManyBlocks;
      continue;
    }
    for (int half = 0; half < 2; ++half) {
      block[b].sum16[t][half] = QuantizeBlock<Isa>(
          x + 32 * b + 16 * half, block[b].q[t] + 16 * half, &block[b].scale[t][half]);
    }
    block[b].sum[t] = block[b].scale[t][0] * static_cast<float>(block[b].sum16[t][0]) +
                      block[b].scale[t][1] * static_cast<float>(block[b].sum16[t][1]);
    ++b;
  }
}

// Calls body(panel's first token, constant<number of tokens>) for the panels of `num_tokens`
// tokens: all full but the last.
template <int kTokens>
struct PanelSize {
  static constexpr int kValue = kTokens;
};
template <int kTokens, typename Body>
MILI_INLINE void OnePanel(int64_t first, int64_t size, Body& body) {
  if (size == kTokens) return body(first, PanelSize<kTokens>{});
  if constexpr (kTokens > 1) OnePanel<kTokens - 1>(first, size, body);
}
template <int kTokenTile, typename Body>
MILI_INLINE void ForEachPanel(int64_t begin, int64_t end, int64_t num_tokens, Body body) {
  for (int64_t t = begin; t < end; t += kTokenTile) {
    OnePanel<kTokenTile>(t, MinOf(num_tokens - t, kTokenTile), body);
  }
}

}  // namespace
}  // namespace mili::kernels

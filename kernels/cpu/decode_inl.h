// Decoders: kLanes weight rows at a time out of GGUF's blocks into a tile in which lane i belongs
// to row i, so that a dot product with one token needs no horizontal sum and the order of its fp32
// additions over K is the same for every batch. Nothing is rounded but the scales.
//
// Each decoder: kStep elements a call out of kStep / block blocks of kBlockBytes; weights as bytes,
// four consecutive elements a dword, w[e / 4]; one scale for kScaleElements elements, d[]; with
// kHasMin also m[], w = d * q + m; else w = d * (q - kOffset).
#pragma once

#include "common/base/dtype.h"
#include "kernels/cpu/vec.h"

namespace mili::kernels {
namespace {

// The low and the high nibbles of 16 bytes a row.
template <typename Isa>
MILI_INLINE void Nibbles(const uint8_t* base, int64_t stride, typename Isa::I* low,
                         typename Isa::I* high) {
  typename Isa::I v[4];
  Isa::Transpose16(base, stride, v);
  for (int j = 0; j < 4; ++j) {
    low[j] = v[j] & 0x0f0f0f0f;
    high[j] = (v[j] >> 4) & 0x0f0f0f0f;
  }
}

// Bit i of `bits` becomes bit 4 of byte i % 4 of w[i / 4].
template <typename Isa>
MILI_INLINE void AddFifthBits(typename Isa::I bits, typename Isa::I* w) {
  for (int j = 0; j < 8; ++j) {
    const typename Isa::I four = (bits >> (4 * j)) & 15;
    w[j] |= ((four * 0x00204081) & 0x01010101) << 4;
  }
}

template <typename Isa>
struct Q8_0 {
  static constexpr int kStep = 32, kScaleElements = 32, kBlockBytes = 34;
  static constexpr bool kHasMin = false, kSigned = true;
  static constexpr int kOffset = Isa::kSignedOffset;
  using I = typename Isa::I;
  using F = typename Isa::F;

  static MILI_INLINE void Decode(const uint8_t* base, int64_t stride, I* w, F* d, F*) {
    d[0] = Isa::HalfOfLow16(Isa::LoadDwords(base, stride));
    Isa::Transpose16(base + 2, stride, w);
    Isa::Transpose16(base + 18, stride, w + 4);
    if constexpr (kOffset == 128) {
      for (int j = 0; j < 8; ++j) w[j] ^= static_cast<int>(0x80808080);
    }
  }
};

template <typename Isa>
struct Q4_0 {
  static constexpr int kStep = 32, kScaleElements = 32, kBlockBytes = 18;
  static constexpr bool kHasMin = false, kSigned = false;
  static constexpr int kOffset = 8;
  using I = typename Isa::I;
  using F = typename Isa::F;

  static MILI_INLINE void Decode(const uint8_t* base, int64_t stride, I* w, F* d, F*) {
    d[0] = Isa::HalfOfLow16(Isa::LoadDwords(base, stride));
    Nibbles<Isa>(base + 2, stride, w, w + 4);
  }
};

template <typename Isa>
struct Q4_1 {
  static constexpr int kStep = 32, kScaleElements = 32, kBlockBytes = 20;
  static constexpr bool kHasMin = true, kSigned = false;
  static constexpr int kOffset = 0;
  using I = typename Isa::I;
  using F = typename Isa::F;

  static MILI_INLINE void Decode(const uint8_t* base, int64_t stride, I* w, F* d, F* m) {
    const I scales = Isa::LoadDwords(base, stride);
    d[0] = Isa::HalfOfLow16(scales);
    m[0] = Isa::HalfOfLow16(scales >> 16);
    Nibbles<Isa>(base + 4, stride, w, w + 4);
  }
};

template <typename Isa>
struct Q5_0 {
  static constexpr int kStep = 32, kScaleElements = 32, kBlockBytes = 22;
  static constexpr bool kHasMin = false, kSigned = false;
  static constexpr int kOffset = 16;
  using I = typename Isa::I;
  using F = typename Isa::F;

  static MILI_INLINE void Decode(const uint8_t* base, int64_t stride, I* w, F* d, F*) {
    d[0] = Isa::HalfOfLow16(Isa::LoadDwords(base, stride));
    Nibbles<Isa>(base + 6, stride, w, w + 4);
    AddFifthBits<Isa>(Isa::LoadDwords(base + 2, stride), w);
  }
};

template <typename Isa>
struct Q5_1 {
  static constexpr int kStep = 32, kScaleElements = 32, kBlockBytes = 24;
  static constexpr bool kHasMin = true, kSigned = false;
  static constexpr int kOffset = 0;
  using I = typename Isa::I;
  using F = typename Isa::F;

  static MILI_INLINE void Decode(const uint8_t* base, int64_t stride, I* w, F* d, F* m) {
    const I scales = Isa::LoadDwords(base, stride);
    d[0] = Isa::HalfOfLow16(scales);
    m[0] = Isa::HalfOfLow16(scales >> 16);
    Nibbles<Isa>(base + 8, stride, w, w + 4);
    AddFifthBits<Isa>(Isa::LoadDwords(base + 4, stride), w);
  }
};

// d * scale and -dmin * min of the 8 sub-blocks of Q4_K and Q5_K, from the first 16 bytes.
template <typename Isa>
MILI_INLINE void KScales(const uint8_t* base, int64_t stride, typename Isa::F* d,
                         typename Isa::F* m) {
  using I = typename Isa::I;
  using F = typename Isa::F;
  I head[4];
  Isa::Transpose16(base, stride, head);
  const F scale = Isa::HalfOfLow16(head[0]);
  const F min = -Isa::HalfOfLow16(head[0] >> 16);
  const I scales[2] = {head[1] & 0x3f3f3f3f,
                       (head[3] & 0x0f0f0f0f) | (((head[1] >> 6) & 0x03030303) << 4)};
  const I mins[2] = {head[2] & 0x3f3f3f3f,
                     ((head[3] >> 4) & 0x0f0f0f0f) | (((head[2] >> 6) & 0x03030303) << 4)};
  for (int sub = 0; sub < 8; ++sub) {
    d[sub] = scale * ToF<Isa>((scales[sub / 4] >> (8 * (sub % 4))) & 255);
    m[sub] = min * ToF<Isa>((mins[sub / 4] >> (8 * (sub % 4))) & 255);
  }
}

template <typename Isa>
struct Q4_K {
  static constexpr int kStep = 256, kScaleElements = 32, kBlockBytes = 144;
  static constexpr bool kHasMin = true, kSigned = false;
  static constexpr int kOffset = 0;
  using I = typename Isa::I;
  using F = typename Isa::F;

  static MILI_INLINE void Decode(const uint8_t* base, int64_t stride, I* w, F* d, F* m) {
    KScales<Isa>(base, stride, d, m);
    for (int pair = 0; pair < 4; ++pair, w += 16) {
      Nibbles<Isa>(base + 16 + 32 * pair, stride, w, w + 8);
      Nibbles<Isa>(base + 32 + 32 * pair, stride, w + 4, w + 12);
    }
  }
};

template <typename Isa>
struct Q5_K {
  static constexpr int kStep = 256, kScaleElements = 32, kBlockBytes = 176;
  static constexpr bool kHasMin = true, kSigned = false;
  static constexpr int kOffset = 0;
  using I = typename Isa::I;
  using F = typename Isa::F;

  static MILI_INLINE void Decode(const uint8_t* base, int64_t stride, I* w, F* d, F* m) {
    KScales<Isa>(base, stride, d, m);
    I high[8];
    Isa::Transpose16(base + 16, stride, high);
    Isa::Transpose16(base + 32, stride, high + 4);
    for (int pair = 0; pair < 4; ++pair, w += 16) {
      Nibbles<Isa>(base + 48 + 32 * pair, stride, w, w + 8);
      Nibbles<Isa>(base + 64 + 32 * pair, stride, w + 4, w + 12);
      for (int j = 0; j < 8; ++j) {
        w[j] |= ((high[j] >> (2 * pair)) & 0x01010101) << 4;
        w[j + 8] |= ((high[j] >> (2 * pair + 1)) & 0x01010101) << 4;
      }
    }
  }
};

template <typename Isa>
struct Q6_K {
  static constexpr int kStep = 256, kScaleElements = 16, kBlockBytes = 210;
  static constexpr bool kHasMin = false, kSigned = false;
  static constexpr int kOffset = 32;
  using I = typename Isa::I;
  using F = typename Isa::F;

  static MILI_INLINE void Decode(const uint8_t* base, int64_t stride, I* w, F* d, F*) {
    I scales[4];
    Isa::Transpose16(base + 192, stride, scales);
    const F scale = Isa::HalfOfLow16((Isa::LoadDwords(base + 206, stride) >> 16));
    for (int s = 0; s < 16; ++s) {
      d[s] = scale * ToF<Isa>((scales[s / 4] << (24 - 8 * (s % 4))) >> 24);
    }
    for (int half = 0; half < 2; ++half, w += 32) {
      const uint8_t* low = base + 64 * half;
      Nibbles<Isa>(low, stride, w, w + 16);
      Nibbles<Isa>(low + 16, stride, w + 4, w + 20);
      Nibbles<Isa>(low + 32, stride, w + 8, w + 24);
      Nibbles<Isa>(low + 48, stride, w + 12, w + 28);
      I high[8];
      Isa::Transpose16(base + 128 + 32 * half, stride, high);
      Isa::Transpose16(base + 144 + 32 * half, stride, high + 4);
      for (int j = 0; j < 8; ++j) {
        for (int k = 0; k < 4; ++k) w[8 * k + j] |= ((high[j] >> (2 * k)) & 0x03030303) << 4;
      }
    }
  }
};

}  // namespace
}  // namespace mili::kernels

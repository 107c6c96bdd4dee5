// Decoder of packed quantised weights (kernels/cpu/packed.h): kLanes rows of a group, lane i
// belonging to row i. Nothing is rounded but the scales. Of a block b of 32 columns it says:
//   W(b, i)   columns 4 i .. 4 i + 3 as bytes, q
//   D(b), M(b)   w = d * (q - kOffset), with kHasMin d * q + m; with kHasHalves D(b, half) differs
//                between the halves of 16 columns
//   Prefetch(b)  calls for what is read some blocks on, as its stream wants it
#pragma once

#include "kernels/cpu/packed.h"
#include "kernels/cpu/vec.h"

namespace mili::kernels {
namespace {

// Far enough ahead for the latency of memory, near enough to stay in L1.
constexpr int64_t kPrefetchBytes = 8192;
// One token's.
constexpr int64_t PrefetchBytesOf(OneTokenStream stream) {
  return stream == OneTokenStream::kOnce  ? 6144
         : stream == OneTokenStream::kTwo ? 3072
                                          : kPrefetchBytes;
}

template <typename Isa, DType kType, OneTokenStream kStream = OneTokenStream::kPlain>
struct Packed {
  using I = typename Isa::I;
  using F = typename Isa::F;
  static constexpr bool kIsBytes = kType == DType::kQ8_0;
  static constexpr bool kHasFifth =
      kType == DType::kQ5_0 || kType == DType::kQ5_1 || kType == DType::kQ5_K;
  static constexpr bool kHasHalves = kType == DType::kQ6_K;
  static constexpr bool kIsK = kType == DType::kQ4_K || kType == DType::kQ5_K;
  static constexpr bool kHasMin = kIsK || kType == DType::kQ4_1 || kType == DType::kQ5_1;
  static constexpr bool kSigned = kIsBytes;
  static constexpr int kOffset = kIsBytes                ? Isa::kSignedOffset
                                 : kType == DType::kQ4_0 ? 8
                                 : kType == DType::kQ5_0 ? 16
                                 : kType == DType::kQ6_K ? 32
                                                         : 0;

  // Rows [first, first + kLanes) of the group at `group`.
  MILI_INLINE Packed(const uint8_t* group, int64_t first, int64_t cols)
      : unit(PackedUnitOf(kType, cols)), base(group), row(first) {}

  MILI_INLINE const uint8_t* UnitOf(int64_t b) const {
    if constexpr (kIsK || kHasHalves) return base + b / 8 * unit.size_bytes;
    return base + (unit.num_blocks == 2 ? b / 2 : b) * unit.size_bytes;
  }
  MILI_INLINE int64_t InUnit(int64_t b) const { return b & (unit.num_blocks - 1); }
  MILI_INLINE I Dwords(const uint8_t* from, int64_t i) const {
    return LoadAs<I>(from + 64 * i + 4 * row);
  }

  MILI_INLINE I W(int64_t b, int i) const {
    const uint8_t* weights = UnitOf(b) + unit.weights_offset;
    if constexpr (kIsBytes) {
      const I w = Dwords(weights, 8 * InUnit(b) + i);
      return kOffset == 128 ? w ^ static_cast<int>(0x80808080) : w;
    }
    const I both = Dwords(weights, 4 * InUnit(b) + i % 4);
    const I low = (i < 4 ? both : both >> 4) & 0x0f0f0f0f;
    const uint8_t* high_bits = UnitOf(b) + unit.high_bits_offset;
    if constexpr (kHasFifth) {
      const I bits = Dwords(high_bits, InUnit(b));
      return low | ((i < 4 ? bits << (4 - i % 4) : bits >> (i % 4)) & 0x10101010);
    }
    if constexpr (kHasHalves) {
      const I bits = Dwords(high_bits, 2 * InUnit(b) + i / 4);
      const int shift = 2 * (i % 4) - 4;
      return low | ((shift < 0 ? bits << -shift : bits >> shift) & 0x30303030);
    }
    return low;
  }

  // A Q4_K or Q5_K block's dword i of (d | dmin, scales and mins of 6 bits).
  MILI_INLINE I Head(int64_t b, int i) const { return Dwords(UnitOf(b), i); }

  MILI_INLINE F D(int64_t b) const {
    if constexpr (kIsK) {
      const int shift = static_cast<int>(8 * (b % 4));
      const I six = b % 8 < 4 ? (Head(b, 1) >> shift) & 63
                              : ((Head(b, 3) >> shift) & 15) | ((Head(b, 1) >> shift) & 0xc0) >> 2;
      return Isa::HalfOfLow16(Head(b, 0)) * ToF<Isa>(six);
    }
    return Isa::LoadHalf(UnitOf(b) + (kHasMin ? 64 : 32) * InUnit(b) + 2 * row);
  }
  MILI_INLINE F M(int64_t b) const {
    if constexpr (kIsK) {
      const int shift = static_cast<int>(8 * (b % 4));
      const I six = b % 8 < 4
                        ? (Head(b, 2) >> shift) & 63
                        : ((Head(b, 3) >> (shift + 4)) & 15) | ((Head(b, 2) >> shift) & 0xc0) >> 2;
      return -Isa::HalfOfLow16(Head(b, 0) >> 16) * ToF<Isa>(six);
    }
    return Isa::LoadHalf(UnitOf(b) + 64 * InUnit(b) + 32 + 2 * row);
  }
  // Q6_K: 16 signed bytes a block of 256, then d.
  MILI_INLINE F D(int64_t b, int half) const {
    const int64_t i = b % 8 * 2 + half;
    const I scale = (Dwords(UnitOf(b), i / 4) << static_cast<int>(24 - 8 * (i % 4))) >> 24;
    return Isa::LoadHalf(UnitOf(b) + 16 * kPackedRows + 2 * row) * ToF<Isa>(scale);
  }

  MILI_INLINE void Prefetch(int64_t b) const {
    constexpr int64_t kBytes = kPackedRows * RowBytes(kType, 256) / 8;
    constexpr int kReuse = kStream == OneTokenStream::kOnce ? 0 : 3;
    const uint8_t* next = base + b * kBytes + PrefetchBytesOf(kStream);
#pragma GCC unroll 9
    for (int64_t i = 0; i < kBytes; i += 64) __builtin_prefetch(next + i, 0, kReuse);
  }

  const PackedUnit unit;
  const uint8_t* const base;
  const int64_t row;  // in the group
};

}  // namespace
}  // namespace mili::kernels

// Vector arithmetic that every instruction set shares, written with the compilers' vector types.
// Each instruction set defines, in an unnamed namespace, a struct `Isa` with the operations that
// differ; the kernels (*_inl.h) are templates over it and are instantiated in that file only, so
// nothing compiled with special flags is ever shared with the rest of the program. For the same
// reason these headers use no inline function of the standard library.
//
// struct Isa {
//   static constexpr int kLanes;        // fp32 lanes of F and int32 lanes of I
//   static constexpr int kTokenTile;    // tokens of which sums, products and integer dot products
//                                       // fit the registers
//   static constexpr int kSignedOffset; // what DotSigned wants added to signed weights: 128 or 0
//   static constexpr bool kHasWordDot;  // then also
//   I DotWords(I sum, I w, int32_t x);  // lane i += 2 int16 of w . 2 of x
//   void StoreWords(int16_t*, I);       // the lanes, which fit 16 bits
//   I LoadBytes(const uint8_t*);        // lane i = byte i
//   F Fma(F a, F b, F c);                              // a * b + c
//   float ReduceAdd(F), ReduceMax(F);                  // in a fixed order
//   int32_t ReduceMaxInt(I), ReduceAddInt(I);
//   F LoadHalf(const void*), LoadBf16(const void*);    // kLanes values, no alignment
//   void StoreBf16(void*, F);                          // to nearest even
//   void StoreBytes(int8_t*, I);                       // the lanes, which fit a byte
//   F HalfOfLow16(I);                                  // lane i = half in the low bits of lane i
//   I Dot(I sum, I w, int32_t x);     // lane i += 4 unsigned bytes (< 128) of w . 4 signed of x
//   I DotSigned(I sum, I w, int32_t x);  // the same for signed w + kSignedOffset
//   OneTokenStream StreamOfOneToken();   // kPlain where it is missing
// };
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/params.h"

#define MILI_INLINE inline __attribute__((always_inline))

namespace mili::kernels {
namespace {

template <typename V, typename T>
MILI_INLINE V LoadAs(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(V));
  return v;
}

template <typename V, typename T>
MILI_INLINE void StoreAs(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof(V));
}

template <typename Isa>
MILI_INLINE typename Isa::F LoadF(const float* p) {
  return LoadAs<typename Isa::F>(p);
}

// The first n lanes; the others are 0.
template <typename Isa>
MILI_INLINE typename Isa::F LoadFirst(const float* p, int64_t n) {
  float lanes[Isa::kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return LoadF<Isa>(lanes);
}

template <typename Isa>
MILI_INLINE void StoreFirst(float* p, typename Isa::F v, int64_t n) {
  if (n == Isa::kLanes) return StoreAs(p, v);
  float lanes[Isa::kLanes];
  StoreAs(lanes, v);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

template <typename Isa>
MILI_INLINE typename Isa::F Broadcast(float x) {
  return x - typename Isa::F{};  // x itself, a negative zero too
}

// The bf16 nearest to each lane, ties to even, in its high half; the low half is of no use. A NaN
// stays a NaN.
template <typename I, typename F>
MILI_INLINE I RoundToBf16(F v) {
  const I bits = reinterpret_cast<I>(v);
  return v != v ? (bits | 0x400000) : bits + (((bits >> 16) & 1) + 0x7fff);
}

template <typename Isa>
MILI_INLINE typename Isa::F ToF(typename Isa::I v) {
  return __builtin_convertvector(v, typename Isa::F);
}

MILI_INLINE int64_t MinOf(int64_t a, int64_t b) { return a < b ? a : b; }
MILI_INLINE int64_t MaxOf(int64_t a, int64_t b) { return a > b ? a : b; }

// How one token's weights are read. It depends on the CPU: what spares AMD's caches (Zen 5) makes
// Intel's (Emerald Rapids) read at half the speed, and two places at a time, which keep more reads
// of one of Intel's cores under way, are slower on AMD's.
template <typename Isa>
MILI_INLINE OneTokenStream StreamOfOneToken(OneTokenStream wanted) {
  if constexpr (requires { Isa::StreamOfOneToken(); }) {
    return wanted == OneTokenStream::kOfCpu ? Isa::StreamOfOneToken() : wanted;
  }
  return OneTokenStream::kPlain;
}

// Between two looks at what another thread writes.
MILI_INLINE void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

constexpr float kInfinity = __builtin_inff();

// exp to 1.5 ulp: 2^n times a degree-6 polynomial on [-ln2/2, ln2/2] (Cephes' coefficients). Below
// -87.3 it is 0, above 88.7 inf, of a NaN a NaN.
template <typename Isa>
MILI_INLINE typename Isa::F Exp(typename Isa::F x) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  const I is_tiny = x < -87.33654f;
  const I is_huge = x > 88.72283f;
  F y = is_tiny ? F{} : x;
  y = is_huge ? F{} : y;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const F shifted = Isa::Fma(y, Broadcast<Isa>(1.44269504f), Broadcast<Isa>(kRound));
  const F n = shifted - kRound;
  F r = Isa::Fma(n, Broadcast<Isa>(-0.693359375f), y);
  r = Isa::Fma(n, Broadcast<Isa>(2.12194440e-4f), r);
  F poly = Isa::Fma(r, Broadcast<Isa>(1.9875691500e-4f), Broadcast<Isa>(1.3981999507e-3f));
  poly = Isa::Fma(poly, r, Broadcast<Isa>(8.3334519073e-3f));
  poly = Isa::Fma(poly, r, Broadcast<Isa>(4.1665795894e-2f));
  poly = Isa::Fma(poly, r, Broadcast<Isa>(1.6666665459e-1f));
  poly = Isa::Fma(poly, r, Broadcast<Isa>(5.0000001201e-1f));
  poly = Isa::Fma(poly, r * r, r + 1.0f);
  // n may be 128, so the power is applied in two factors.
  const I exponent = reinterpret_cast<I>(shifted) - 0x4B400000;
  const I half = exponent >> 1;
  const F result = poly * reinterpret_cast<F>((half + 127) << 23) *
                   reinterpret_cast<F>((exponent - half + 127) << 23);
  return is_huge ? Broadcast<Isa>(kInfinity) : (is_tiny ? F{} : result);
}

// sum of a[i] * b[i], element i in lane i % kLanes.
template <typename Isa>
MILI_INLINE float LaneDot(const float* a, const float* b, int64_t n) {
  typename Isa::F sum = {};
  int64_t i = 0;
  for (; i + Isa::kLanes <= n; i += Isa::kLanes) {
    sum = Isa::Fma(LoadF<Isa>(a + i), LoadF<Isa>(b + i), sum);
  }
  if (i < n) sum = Isa::Fma(LoadFirst<Isa>(a + i, n - i), LoadFirst<Isa>(b + i, n - i), sum);
  return Isa::ReduceAdd(sum);
}

}  // namespace
}  // namespace mili::kernels

// AVX-512 (F, BW, VL, DQ) with VNNI: 16 lanes.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/vec.h"

namespace mili::kernels {
namespace {

struct Isa {
  typedef float F __attribute__((vector_size(64)));
  typedef int32_t I __attribute__((vector_size(64)));
  static constexpr int kLanes = 16;
  static constexpr int kTokenTile = 8;
  static constexpr int kSignedOffset = 128;
  static constexpr bool kHasWordDot = true;

  static MILI_INLINE OneTokenStream StreamOfOneToken() {
    if (__builtin_cpu_is("amd")) return OneTokenStream::kOnce;
    return __builtin_cpu_is("intel") ? OneTokenStream::kTwo : OneTokenStream::kPlain;
  }

  static MILI_INLINE F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static MILI_INLINE float ReduceAdd(F v) { return _mm512_reduce_add_ps(v); }
  static MILI_INLINE float ReduceMax(F v) { return _mm512_reduce_max_ps(v); }

  static MILI_INLINE int32_t ReduceMaxInt(I v) {
    return _mm512_reduce_max_epi32(reinterpret_cast<__m512i>(v));
  }
  static MILI_INLINE int32_t ReduceAddInt(I v) {
    return _mm512_reduce_add_epi32(reinterpret_cast<__m512i>(v));
  }

  static MILI_INLINE F LoadHalf(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static MILI_INLINE F LoadBf16(const void* p) {
    const __m256i half = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static MILI_INLINE void StoreBf16(void* p, F v) {
    const I result = RoundToBf16<I>(v);
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(
                                                      reinterpret_cast<__m512i>(result), 16)));
  }
  static MILI_INLINE void StoreBytes(int8_t* p, I v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(v)));
  }
  static MILI_INLINE F HalfOfLow16(I v) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(v)));
  }

  static MILI_INLINE I Dot(I sum, I w, int32_t x) {
    return reinterpret_cast<I>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(w), _mm512_set1_epi32(x)));
  }
  static MILI_INLINE I DotSigned(I sum, I w, int32_t x) { return Dot(sum, w, x); }
  static MILI_INLINE I LoadBytes(const uint8_t* p) {
    return reinterpret_cast<I>(
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static MILI_INLINE void StoreWords(int16_t* p, I v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(v)));
  }
  static MILI_INLINE I DotWords(I sum, I w, int32_t x) {
    return reinterpret_cast<I>(_mm512_dpwssd_epi32(
        reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(w), _mm512_set1_epi32(x)));
  }
};

}  // namespace
}  // namespace mili::kernels

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
  static constexpr int kFloatRows = 4;
  static constexpr int kFloatTokens = 4;
  static constexpr int kSignedOffset = 128;

  static MILI_INLINE F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static MILI_INLINE float ReduceAdd(F v) { return _mm512_reduce_add_ps(v); }
  static MILI_INLINE float ReduceMax(F v) { return _mm512_reduce_max_ps(v); }

  static MILI_INLINE F ReduceRows(const F* rows) {
    __m512 pairs[8], quads[4];
    for (int i = 0; i < 8; ++i) {  // in each 128-bit lane: a0+a2, b0+b2, a1+a3, b1+b3
      pairs[i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]) +
                 _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    for (int i = 0; i < 4; ++i) {  // in each 128-bit lane: a, b, c, d
      const __m512d lo = _mm512_castps_pd(pairs[2 * i]);
      const __m512d hi = _mm512_castps_pd(pairs[2 * i + 1]);
      quads[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(lo, hi)) +
                 _mm512_castpd_ps(_mm512_unpackhi_pd(lo, hi));
    }
    const __m512 ab = _mm512_shuffle_f32x4(quads[0], quads[1], 0x88) +
                      _mm512_shuffle_f32x4(quads[0], quads[1], 0xdd);
    const __m512 cd = _mm512_shuffle_f32x4(quads[2], quads[3], 0x88) +
                      _mm512_shuffle_f32x4(quads[2], quads[3], 0xdd);
    return _mm512_shuffle_f32x4(ab, cd, 0x88) + _mm512_shuffle_f32x4(ab, cd, 0xdd);
  }

  static MILI_INLINE F LoadHalf(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static MILI_INLINE F LoadBf16(const void* p) {
    const __m256i half = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static MILI_INLINE void StoreBf16(void* p, F v) {
    const I bits = reinterpret_cast<I>(v);
    const I rounded = bits + (((bits >> 16) & 1) + 0x7fff);
    const I result = v != v ? (bits | 0x400000) : rounded;
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(
                                                      reinterpret_cast<__m512i>(result), 16)));
  }
  static MILI_INLINE F HalfOfLow16(I v) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(v)));
  }

  static MILI_INLINE __m128i FourDwords(const uint8_t* base, int64_t stride) {
    __m128i v = _mm_loadu_si32(base);
    v = _mm_insert_epi32(v, LoadAs<int32_t>(base + stride), 1);
    v = _mm_insert_epi32(v, LoadAs<int32_t>(base + 2 * stride), 2);
    return _mm_insert_epi32(v, LoadAs<int32_t>(base + 3 * stride), 3);
  }
  static MILI_INLINE I LoadDwords(const uint8_t* base, int64_t stride) {
    __m512i v = _mm512_castsi128_si512(FourDwords(base, stride));
    v = _mm512_inserti32x4(v, FourDwords(base + 4 * stride, stride), 1);
    v = _mm512_inserti32x4(v, FourDwords(base + 8 * stride, stride), 2);
    v = _mm512_inserti32x4(v, FourDwords(base + 12 * stride, stride), 3);
    return reinterpret_cast<I>(v);
  }

  static MILI_INLINE void Transpose16(const uint8_t* base, int64_t stride, I* out) {
    __m512i rows[4];  // rows[i]: rows i, i + 4, i + 8, i + 12
    for (int i = 0; i < 4; ++i) {
      const uint8_t* p = base + i * stride;
      rows[i] = _mm512_castsi128_si512(LoadAs<__m128i>(p));
      rows[i] = _mm512_inserti32x4(rows[i], LoadAs<__m128i>(p + 4 * stride), 1);
      rows[i] = _mm512_inserti32x4(rows[i], LoadAs<__m128i>(p + 8 * stride), 2);
      rows[i] = _mm512_inserti32x4(rows[i], LoadAs<__m128i>(p + 12 * stride), 3);
    }
    const __m512i ab_lo = _mm512_unpacklo_epi32(rows[0], rows[1]);
    const __m512i ab_hi = _mm512_unpackhi_epi32(rows[0], rows[1]);
    const __m512i cd_lo = _mm512_unpacklo_epi32(rows[2], rows[3]);
    const __m512i cd_hi = _mm512_unpackhi_epi32(rows[2], rows[3]);
    out[0] = reinterpret_cast<I>(_mm512_unpacklo_epi64(ab_lo, cd_lo));
    out[1] = reinterpret_cast<I>(_mm512_unpackhi_epi64(ab_lo, cd_lo));
    out[2] = reinterpret_cast<I>(_mm512_unpacklo_epi64(ab_hi, cd_hi));
    out[3] = reinterpret_cast<I>(_mm512_unpackhi_epi64(ab_hi, cd_hi));
  }

  static MILI_INLINE I Dot(I sum, I w, int32_t x) {
    return reinterpret_cast<I>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(w), _mm512_set1_epi32(x)));
  }
  static MILI_INLINE I DotSigned(I sum, I w, int32_t x) { return Dot(sum, w, x); }
};

}  // namespace
}  // namespace mili::kernels

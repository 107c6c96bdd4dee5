// AVX2 with FMA and F16C, and AVX-VNNI where the file is compiled for it: 8 lanes.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/vec.h"

namespace mili::kernels {
namespace {

struct Isa {
  typedef float F __attribute__((vector_size(32)));
  typedef int32_t I __attribute__((vector_size(32)));
  static constexpr int kLanes = 8;
  static constexpr int kTokenTile = 4;
#ifdef __AVXVNNI__
  static constexpr int kSignedOffset = 128;
#else
  static constexpr int kSignedOffset = 0;
#endif
  static constexpr bool kHasWordDot = true;

  static MILI_INLINE F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static MILI_INLINE float ReduceAdd(F v) {
    __m128 s = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
    s = s + _mm_movehl_ps(s, s);
    return s[0] + s[1];
  }
  static MILI_INLINE float ReduceMax(F v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return s[0] > s[1] ? s[0] : s[1];
  }

  static MILI_INLINE int32_t ReduceMaxInt(I v) {
    __m128i s = _mm_max_epi32(_mm256_castsi256_si128(reinterpret_cast<__m256i>(v)),
                              _mm256_extracti128_si256(reinterpret_cast<__m256i>(v), 1));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1)));
    return _mm_cvtsi128_si32(s);
  }
  static MILI_INLINE int32_t ReduceAddInt(I v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(reinterpret_cast<__m256i>(v)),
                              _mm256_extracti128_si256(reinterpret_cast<__m256i>(v), 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1)));
    return _mm_cvtsi128_si32(s);
  }

  static MILI_INLINE F LoadHalf(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static MILI_INLINE F LoadBf16(const void* p) {
    const __m128i half = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static MILI_INLINE void StoreBf16(void* p, F v) {
    const I result = RoundToBf16<I>(v);
    const __m256i high = _mm256_srli_epi32(reinterpret_cast<__m256i>(result), 16);
    const __m256i packed =
        _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), _MM_SHUFFLE(3, 1, 2, 0));
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }
  static MILI_INLINE void StoreBytes(int8_t* p, I v) {
    const __m256i words = _mm256_packs_epi32(reinterpret_cast<__m256i>(v), __m256i{});
    const __m256i bytes = _mm256_packs_epi16(words, words);
    const int32_t halves[] = {_mm256_extract_epi32(bytes, 0), _mm256_extract_epi32(bytes, 4)};
    __builtin_memcpy(p, halves, sizeof(halves));
  }
  static MILI_INLINE F HalfOfLow16(I v) {
    const __m256i low = _mm256_and_si256(reinterpret_cast<__m256i>(v), _mm256_set1_epi32(0xffff));
    const __m256i packed =
        _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), _MM_SHUFFLE(3, 1, 2, 0));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
  }

  static MILI_INLINE I LoadBytes(const uint8_t* p) {
    return reinterpret_cast<I>(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static MILI_INLINE void StoreWords(int16_t* p, I v) {
    const __m256i v32 = reinterpret_cast<__m256i>(v);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(p),
        _mm_packs_epi32(_mm256_castsi256_si128(v32), _mm256_extracti128_si256(v32, 1)));
  }

#ifdef __AVXVNNI__
  static MILI_INLINE I Dot(I sum, I w, int32_t x) {
    return reinterpret_cast<I>(_mm256_dpbusd_avx_epi32(
        reinterpret_cast<__m256i>(sum), reinterpret_cast<__m256i>(w), _mm256_set1_epi32(x)));
  }
  static MILI_INLINE I DotSigned(I sum, I w, int32_t x) { return Dot(sum, w, x); }
  static MILI_INLINE I DotWords(I sum, I w, int32_t x) {
    return reinterpret_cast<I>(_mm256_dpwssd_avx_epi32(
        reinterpret_cast<__m256i>(sum), reinterpret_cast<__m256i>(w), _mm256_set1_epi32(x)));
  }
#else
  // maddubs adds two products in 16 bits: 2 * 127 * 127 fits.
  static MILI_INLINE I SumOfPairs(I sum, __m256i pairs) {
    const __m256i quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    return sum + reinterpret_cast<I>(quads);
  }
  static MILI_INLINE I Dot(I sum, I w, int32_t x) {
    return SumOfPairs(sum,
                      _mm256_maddubs_epi16(reinterpret_cast<__m256i>(w), _mm256_set1_epi32(x)));
  }
  // |w| as unsigned (up to 128) and the sign on x, which is within +-127: 2 * 128 * 127 fits too.
  static MILI_INLINE I DotSigned(I sum, I w, int32_t x) {
    const __m256i v = reinterpret_cast<__m256i>(w);
    return SumOfPairs(
        sum, _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(_mm256_set1_epi32(x), v)));
  }
  static MILI_INLINE I DotWords(I sum, I w, int32_t x) {
    const __m256i pairs = _mm256_madd_epi16(reinterpret_cast<__m256i>(w), _mm256_set1_epi32(x));
    return sum + reinterpret_cast<I>(pairs);
  }
#endif
};

}  // namespace
}  // namespace mili::kernels

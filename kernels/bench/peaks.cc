#include "kernels/bench/peaks.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/reference/lanes.h"

namespace mili::kernels {
namespace {

constexpr int64_t kRounds = 1 << 15;  // of a loop

// Multiply-adds a second of `loop`, which does `macs_a_round` in each round, on every thread.
double RateOf(void (*loop)(), int64_t macs_a_round, ParallelFor& pool) {
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    constexpr int64_t kLoops = 32;  // shared out in pieces
    const auto start = std::chrono::steady_clock::now();
    ForPieces(pool, kLoops, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t l = begin; l < end; ++l) loop();
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(kLoops * kRounds * macs_a_round) / seconds.count());
  }
  return best;
}

#if defined(__x86_64__)

// Sums that do not wait for each other hide the latency; the empty asm keeps each from being
// folded away.
#define MILI_PEAK_LOOP(name, target_name, count, Vector, zero, step)      \
  __attribute__((target(target_name))) void name() {                      \
    Vector x = zero;                                                      \
    asm volatile("" : "+v"(x));                                           \
    Vector sums[count];                                                   \
    _Pragma("GCC unroll 16") for (int i = 0; i < count; ++i) sums[i] = x; \
    for (int64_t round = 0; round < kRounds; ++round) {                   \
      _Pragma("GCC unroll 16") for (int i = 0; i < count; ++i) {          \
        Vector& sum = sums[i];                                            \
        step;                                                             \
        asm volatile("" : "+v"(sum));                                     \
      }                                                                   \
    }                                                                     \
  }

MILI_PEAK_LOOP(Int8Zmm, "avx512f,avx512vnni", 16, __m512i, _mm512_setzero_si512(),
               sum = _mm512_dpbusd_epi32(sum, x, x))
MILI_PEAK_LOOP(Fp32Zmm, "avx512f", 16, __m512, _mm512_setzero_ps(),
               sum = _mm512_fmadd_ps(x, x, sum))
MILI_PEAK_LOOP(Int16Zmm, "avx512f,avx512vnni", 16, __m512i, _mm512_setzero_si512(),
               sum = _mm512_dpwssd_epi32(sum, x, x))
MILI_PEAK_LOOP(Int8Ymm, "avx2", 8, __m256i, _mm256_setzero_si256(),
               sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, sum), x)))
MILI_PEAK_LOOP(Int16Ymm, "avx2", 8, __m256i, _mm256_setzero_si256(),
               sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, sum)))
MILI_PEAK_LOOP(Int16VnniYmm, "avx2,avxvnni", 8, __m256i, _mm256_setzero_si256(),
               sum = _mm256_dpwssd_avx_epi32(sum, x, x))
MILI_PEAK_LOOP(Int8VnniYmm, "avx2,avxvnni", 8, __m256i, _mm256_setzero_si256(),
               sum = _mm256_dpbusd_avx_epi32(sum, x, x))
MILI_PEAK_LOOP(Fp32Ymm, "avx2,fma", 12, __m256, _mm256_setzero_ps(),
               sum = _mm256_fmadd_ps(x, x, sum))

#undef MILI_PEAK_LOOP

#endif

// Reads n words, a multiple of 32, and gives something that depends on all.
MILI_MULTIVERSION uint64_t ReadWords(const uint64_t* words, int64_t n) {
  uint64_t lanes[32] = {};
  for (int64_t i = 0; i < n; i += 32) {
    for (int line = 0; line < 4; ++line) __builtin_prefetch(words + i + 256 + 8 * line);
    for (int l = 0; l < 32; ++l) lanes[l] ^= words[i + l];
  }
  return std::accumulate(lanes, lanes + 32, uint64_t{0});
}

}  // namespace

Peaks MeasurePeaks(const CpuKernels& table, ParallelFor& pool) {
  Peaks peaks;
#if defined(__x86_64__)
  const auto is = [&](const char* name) { return std::strcmp(table.name, name) == 0; };
  if (is("avx512_vnni")) {
    peaks.int8_macs_per_s = RateOf(Int8Zmm, 16 * 64, pool);
    peaks.int16_macs_per_s = RateOf(Int16Zmm, 16 * 32, pool);
    peaks.fp32_macs_per_s = RateOf(Fp32Zmm, 16 * 16, pool);
  } else if (is("avx_vnni") || is("avx2")) {
    peaks.int8_macs_per_s = RateOf(is("avx2") ? Int8Ymm : Int8VnniYmm, 8 * 32, pool);
    peaks.int16_macs_per_s = RateOf(is("avx2") ? Int16Ymm : Int16VnniYmm, 8 * 16, pool);
    peaks.fp32_macs_per_s = RateOf(Fp32Ymm, 12 * 8, pool);
  }
#endif
  return peaks;
}

double ReadSeconds(const std::byte* data, size_t bytes, ParallelFor& pool) {
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  const auto start = std::chrono::steady_clock::now();
  ForPieces(pool, static_cast<int64_t>(bytes / 256), 8, [&](int64_t begin, int64_t end, int) {
    const uint64_t read = ReadWords(words + 32 * begin, 32 * (end - begin));
    asm volatile("" : : "r"(read));  // was not in vain
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return seconds.count();
}

}  // namespace mili::kernels

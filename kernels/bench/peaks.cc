#include "kernels/bench/peaks.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "kernels/cpu/isa_portable.h"
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

// Sums that do not wait for each other hide the latency; the empty asm keeps each from being
// folded away.
#define MILI_PEAK_LOOP(name, attributes, constraint, count, Vector, zero, step) \
  attributes void name() {                                                      \
    Vector x = zero;                                                            \
    asm volatile("" : "+" constraint(x));                                       \
    Vector sums[count];                                                         \
    _Pragma("GCC unroll 16") for (int i = 0; i < count; ++i) sums[i] = x;       \
    for (int64_t round = 0; round < kRounds; ++round) {                         \
      _Pragma("GCC unroll 16") for (int i = 0; i < count; ++i) {                \
        Vector& sum = sums[i];                                                  \
        step;                                                                   \
        asm volatile("" : "+" constraint(sum));                                 \
      }                                                                         \
    }                                                                           \
  }

#if defined(__x86_64__)

#define MILI_X86_LOOP(name, target_name, count, Vector, zero, step) \
  MILI_PEAK_LOOP(name, __attribute__((target(target_name))), "v", count, Vector, zero, step)

MILI_X86_LOOP(Int8Zmm, "avx512f,avx512vnni", 16, __m512i, _mm512_setzero_si512(),
              sum = _mm512_dpbusd_epi32(sum, x, x))
MILI_X86_LOOP(Fp32Zmm, "avx512f", 16, __m512, _mm512_setzero_ps(), sum = _mm512_fmadd_ps(x, x, sum))
MILI_X86_LOOP(Int16Zmm, "avx512f,avx512vnni", 16, __m512i, _mm512_setzero_si512(),
              sum = _mm512_dpwssd_epi32(sum, x, x))
MILI_X86_LOOP(Bf16Zmm, "avx512f,avx512bf16", 16, __m512, _mm512_setzero_ps(),
              sum = _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)x))
MILI_X86_LOOP(Int8Ymm, "avx2", 8, __m256i, _mm256_setzero_si256(),
              sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, sum), x)))
MILI_X86_LOOP(Int16Ymm, "avx2", 8, __m256i, _mm256_setzero_si256(),
              sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, sum)))
MILI_X86_LOOP(Int16VnniYmm, "avx2,avxvnni", 8, __m256i, _mm256_setzero_si256(),
              sum = _mm256_dpwssd_avx_epi32(sum, x, x))
MILI_X86_LOOP(Int8VnniYmm, "avx2,avxvnni", 8, __m256i, _mm256_setzero_si256(),
              sum = _mm256_dpbusd_avx_epi32(sum, x, x))
MILI_X86_LOOP(Fp32Ymm, "avx2,fma", 12, __m256, _mm256_setzero_ps(),
              sum = _mm256_fmadd_ps(x, x, sum))
MILI_PEAK_LOOP(Int8Portable, , "x", 8, Isa::I, {}, sum = Isa::Dot(sum, x, x[0]))
MILI_PEAK_LOOP(Fp32Portable, , "x", 12, Isa::F, {}, sum = Isa::Fma(x, x, sum))

// Four tiles of sums, 16 x 16 of 32 products an instruction. LDTILECFG by hand: see isa_amx.h.
__attribute__((target("amx-tile,amx-bf16"))) void Bf16Tiles() {
  struct alignas(64) {
    uint8_t palette = 1;
    uint8_t reserved[15] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16};
  } config;
  asm volatile("ldtilecfg %0" : : "m"(config));
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t round = 0; round < kRounds; ++round) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
}

#elif defined(__aarch64__)

#define MILI_ARM_LOOP(name, attributes, Vector, step) \
  MILI_PEAK_LOOP(name, attributes, "w", 16, Vector, {}, step)

MILI_ARM_LOOP(Int8Dot, __attribute__((target("arch=armv8.2-a+dotprod"))), int8x16_t,
              sum = vreinterpretq_s8_s32(vdotq_s32(vreinterpretq_s32_s8(sum), x, x)))
MILI_ARM_LOOP(Fp32Fma, , float32x4_t, sum = vfmaq_f32(sum, x, x))
MILI_PEAK_LOOP(Int8Portable, , "w", 8, Isa::I, {}, sum = Isa::Dot(sum, x, x[0]))
MILI_PEAK_LOOP(Fp32Portable, , "w", 12, Isa::F, {}, sum = Isa::Fma(x, x, sum))

#endif

// A loop, null if there is none, and the multiply-adds of a round of it.
struct PeakLoop {
  void (*run)() = nullptr;
  int64_t macs_a_round = 0;
};

PeakLoop LoopOf(const CpuKernels& table, Arithmetic arithmetic) {
  const auto is = [&](const char* name) { return std::strcmp(table.name, name) == 0; };
#if defined(__x86_64__)
  if (is("avx512_vnni") || is("amx")) {
    if (arithmetic == Arithmetic::kInt8) return {Int8Zmm, 16 * 64};
    if (arithmetic == Arithmetic::kInt16) return {Int16Zmm, 16 * 32};
    if (arithmetic == Arithmetic::kFp32) return {Fp32Zmm, 16 * 16};
    if (is("amx")) return {Bf16Tiles, 4 * 16 * 16 * 32 / 2};
    if (__builtin_cpu_supports("avx512bf16")) return {Bf16Zmm, 16 * 32};
  }
  if (is("avx_vnni") || is("avx2")) {
    if (arithmetic == Arithmetic::kInt8) return {is("avx2") ? Int8Ymm : Int8VnniYmm, 8 * 32};
    if (arithmetic == Arithmetic::kInt16) return {is("avx2") ? Int16Ymm : Int16VnniYmm, 8 * 16};
    if (arithmetic == Arithmetic::kFp32) return {Fp32Ymm, 12 * 8};
  }
#elif defined(__aarch64__)
  if (is("neon_dot")) {
    if (arithmetic == Arithmetic::kInt8) return {Int8Dot, 16 * 16};
    if (arithmetic == Arithmetic::kFp32) return {Fp32Fma, 16 * 4};
  }
#endif
#if defined(__x86_64__) || defined(__aarch64__)
  if (is("portable")) {
    if (arithmetic == Arithmetic::kInt8) return {Int8Portable, 8 * 16};
    if (arithmetic == Arithmetic::kFp32) return {Fp32Portable, 12 * 4};
  }
#endif
  return {};
}

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

double PeakMacs(const CpuKernels& table, Arithmetic arithmetic, ParallelFor& pool) {
  const PeakLoop loop = LoopOf(table, arithmetic);
  return loop.run == nullptr ? 0 : RateOf(loop.run, loop.macs_a_round, pool);
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

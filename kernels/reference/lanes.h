// Sums in 16 fixed fp32 lanes: the compiler can vectorise them, and the order of additions depends
// on nothing but the length. Any thread; no state.
#pragma once

#include <cstdint>

// Compiles a function for several instruction sets, chosen at load time. Without contraction
// (-ffp-contract=off) each gives the same bits. Sanitizers cannot run the choice.
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define MILI_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define MILI_MULTIVERSION
#endif

namespace mili::kernels {

inline constexpr int kSumLanes = 16;

// Adds the lanes pairwise: 16, 8, 4, 2, 1.
[[gnu::always_inline]] inline float SumOfLanes(float* lanes) {
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// sum of a[i] * b[i]; product i goes to lane i % 16.
[[gnu::always_inline]] inline float Dot(const float* a, const float* b, int64_t n) {
  float lanes[kSumLanes] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int l = 0; l < kSumLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  }
  for (int l = 0; i < n; ++i, ++l) lanes[l] += a[i] * b[i];
  return SumOfLanes(lanes);
}

}  // namespace mili::kernels

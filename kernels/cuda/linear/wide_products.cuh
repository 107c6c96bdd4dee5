// What the wide kernel multiplies: products of 64 weight rows by 16, 64 or 128 tokens, both in
// shared memory, for 16-bit elements and e4m3. Adds to common/wgmma.cuh, whose rules hold here too.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/wgmma.cuh"

namespace mili::kernels::cuda {

// Operands of fp8; what comes out of them is of another type.
struct E4m3 {};

// The names and the places of 8, 32 and 64 sums.
#define MILI_SUM_NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define MILI_SUM_NAMES_32                                                                     \
  MILI_SUM_NAMES_8                                                                            \
  ", %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25," \
  " %26, %27, %28, %29, %30, %31"
#define MILI_SUM_NAMES_64                                                                      \
  MILI_SUM_NAMES_32                                                                            \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49" \
  ", %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MILI_SUMS_8(i)                                                                        \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), \
      "+f"(c[i + 6]), "+f"(c[i + 7])
#define MILI_SUMS_32(i) MILI_SUMS_8(i), MILI_SUMS_8(i + 8), MILI_SUMS_8(i + 16), MILI_SUMS_8(i + 24)

// One product; `shape` ends in the types, `flags` are the operands after the scale of the sums.
#define MILI_PRODUCT(shape, names, flags, a, b, is_first, ...)                   \
  asm volatile("{\n.reg .pred add;\nsetp.eq.b32 add, %" is_first                 \
               ", 0;\n"                                                          \
               "wgmma.mma_async.sync.aligned." shape " {" names "}, %" a ", %" b \
               ", add, 1, 1" flags ";\n}\n"                                      \
               : __VA_ARGS__                                                     \
               : "l"(w), "l"(x), "r"(static_cast<int>(first)))

template <>
__device__ __forceinline__ void ProductOfTiles<Bf16, 16>(float (&c)[8], uint64_t w, uint64_t x,
                                                         bool first) {
  MILI_PRODUCT("m64n16k16.f32.bf16.bf16", MILI_SUM_NAMES_8, ", 0, 0", "8", "9", "10",
               MILI_SUMS_8(0));
}

template <>
__device__ __forceinline__ void ProductOfTiles<F16, 16>(float (&c)[8], uint64_t w, uint64_t x,
                                                        bool first) {
  MILI_PRODUCT("m64n16k16.f32.f16.f16", MILI_SUM_NAMES_8, ", 0, 0", "8", "9", "10", MILI_SUMS_8(0));
}

template <>
__device__ __forceinline__ void ProductOfTiles<E4m3, 16>(float (&c)[8], uint64_t w, uint64_t x,
                                                         bool first) {
  MILI_PRODUCT("m64n16k32.f32.e4m3.e4m3", MILI_SUM_NAMES_8, "", "8", "9", "10", MILI_SUMS_8(0));
}

template <>
__device__ __forceinline__ void ProductOfTiles<E4m3, 64>(float (&c)[32], uint64_t w, uint64_t x,
                                                         bool first) {
  MILI_PRODUCT("m64n64k32.f32.e4m3.e4m3", MILI_SUM_NAMES_32, "", "32", "33", "34", MILI_SUMS_32(0));
}

template <>
__device__ __forceinline__ void ProductOfTiles<E4m3, 128>(float (&c)[64], uint64_t w, uint64_t x,
                                                          bool first) {
  MILI_PRODUCT("m64n128k32.f32.e4m3.e4m3", MILI_SUM_NAMES_64, "", "64", "65", "66", MILI_SUMS_32(0),
               MILI_SUMS_32(32));
}

#undef MILI_PRODUCT
#undef MILI_SUMS_32
#undef MILI_SUMS_8
#undef MILI_SUM_NAMES_64
#undef MILI_SUM_NAMES_32
#undef MILI_SUM_NAMES_8

}  // namespace mili::kernels::cuda

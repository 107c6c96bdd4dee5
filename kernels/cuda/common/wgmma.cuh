// Hopper's warpgroup products (wgmma) of 16-bit elements and of e4m3 with fp32 sums, and the tensor
// map copies that feed them. For sm_90a only; elsewhere nothing here may be called. All four warps
// of a warpgroup make each call together.
//
// A product is under way from its call until WaitForProducts; its registers belong to it so long.
// Sums lie as in PTX's wgmma m64nNk16: thread t of the warpgroup holds of rows
// t / 32 * 16 + t % 32 / 4 (values 4i, 4i + 1) and 8 rows below (4i + 2, 4i + 3) the columns
// 8i + t % 4 * 2 and the next.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/common/mma.cuh"

namespace mili::kernels::cuda {

// Describes a tile in shared memory with 128-byte rows, swizzled in groups of 8 rows; the groups
// follow one another (1024 bytes). `leading_bytes`: between the columns 0..63 and 64..127 of a tile
// whose rows are the product's K (transposed operands); without meaning for others.
__device__ __forceinline__ uint64_t TileDescriptor(uint32_t shared_address,
                                                   uint32_t leading_bytes) {
  return uint64_t{(shared_address & 0x3ffff) >> 4} | uint64_t{leading_bytes >> 4} << 16 |
         uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

// Before the first product, and again after other instructions wrote its registers.
__device__ __forceinline__ void FenceProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from touching `registers` before this point.
template <int kCount>
__device__ __forceinline__ void HoldRegisters(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}

// Operands of fp8; what comes out of them is of another type.
struct E4m3 {};

// c = a b' (is_first) or c += a b', both in shared memory with K along the rows.
template <typename E, int kN>
__device__ __forceinline__ void ProductOfTiles(float (&c)[kN / 2], uint64_t a, uint64_t b,
                                               bool is_first);

// c += a b, a in registers (fragments as of mma.m16n8k16, a warp's 16 rows each), b in shared
// memory with K down the columns.
template <typename E, int kN>
__device__ __forceinline__ void ProductOfRegisters(float (&c)[kN / 2], const uint32_t (&a)[4],
                                                   uint64_t b);

// The names and the places of 8, 32, 64 and 128 sums.
#define MILI_SUM_NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define MILI_SUM_NAMES_32                                                                     \
  MILI_SUM_NAMES_8                                                                            \
  ", %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25," \
  " %26, %27, %28, %29, %30, %31"
#define MILI_SUM_NAMES_64                                                                      \
  MILI_SUM_NAMES_32                                                                            \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49" \
  ", %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MILI_SUM_NAMES_128                                                                       \
  MILI_SUM_NAMES_64                                                                              \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, " \
  "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, "   \
  "%100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, "   \
  "%115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define MILI_SUMS_8(i)                                                                        \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), \
      "+f"(c[i + 6]), "+f"(c[i + 7])
#define MILI_SUMS_32(i) MILI_SUMS_8(i), MILI_SUMS_8(i + 8), MILI_SUMS_8(i + 16), MILI_SUMS_8(i + 24)

// ProductOfTiles for an element: `shape` ends in the types, `flags` are the operands after the
// scale of the sums, the last strings number the operands behind the sums.
#define MILI_TILES(E, kN, shape, names, flags, a_name, b_name, first_name, ...)                    \
  template <>                                                                                      \
  __device__ __forceinline__ void ProductOfTiles<E, kN>(float(&c)[kN / 2], uint64_t a, uint64_t b, \
                                                        bool is_first) {                           \
    asm volatile("{\n.reg .pred add;\nsetp.eq.b32 add, %" first_name                               \
                 ", 0;\n"                                                                          \
                 "wgmma.mma_async.sync.aligned." shape " {" names "}, %" a_name ", %" b_name       \
                 ", add, 1, 1" flags ";\n}\n"                                                      \
                 : __VA_ARGS__                                                                     \
                 : "l"(a), "l"(b), "r"(static_cast<int>(is_first)));                               \
  }
#define MILI_TILES_16(E, shape, flags) \
  MILI_TILES(E, 16, shape, MILI_SUM_NAMES_8, flags, "8", "9", "10", MILI_SUMS_8(0))
#define MILI_TILES_64(E, shape, flags) \
  MILI_TILES(E, 64, shape, MILI_SUM_NAMES_32, flags, "32", "33", "34", MILI_SUMS_32(0))
#define MILI_TILES_128(E, shape, flags)                                                  \
  MILI_TILES(E, 128, shape, MILI_SUM_NAMES_64, flags, "64", "65", "66", MILI_SUMS_32(0), \
             MILI_SUMS_32(32))
#define MILI_TILES_256(E, shape, flags)                                                      \
  MILI_TILES(E, 256, shape, MILI_SUM_NAMES_128, flags, "128", "129", "130", MILI_SUMS_32(0), \
             MILI_SUMS_32(32), MILI_SUMS_32(64), MILI_SUMS_32(96))

MILI_TILES_16(Bf16, "m64n16k16.f32.bf16.bf16", ", 0, 0")
MILI_TILES_64(Bf16, "m64n64k16.f32.bf16.bf16", ", 0, 0")
MILI_TILES_128(Bf16, "m64n128k16.f32.bf16.bf16", ", 0, 0")
MILI_TILES_256(Bf16, "m64n256k16.f32.bf16.bf16", ", 0, 0")
MILI_TILES_16(F16, "m64n16k16.f32.f16.f16", ", 0, 0")
MILI_TILES_64(F16, "m64n64k16.f32.f16.f16", ", 0, 0")
MILI_TILES_128(F16, "m64n128k16.f32.f16.f16", ", 0, 0")
MILI_TILES_256(F16, "m64n256k16.f32.f16.f16", ", 0, 0")
MILI_TILES_16(E4m3, "m64n16k32.f32.e4m3.e4m3", "")
MILI_TILES_64(E4m3, "m64n64k32.f32.e4m3.e4m3", "")
MILI_TILES_128(E4m3, "m64n128k32.f32.e4m3.e4m3", "")

// ProductOfRegisters, likewise.
#define MILI_REGISTERS(E, kN, shape, names, a_names, b_name, ...)                                \
  template <>                                                                                    \
  __device__ __forceinline__ void ProductOfRegisters<E, kN>(float(&c)[kN / 2],                   \
                                                            const uint32_t(&a)[4], uint64_t b) { \
    asm volatile("wgmma.mma_async.sync.aligned." shape " {" names "}, {" a_names "}, %" b_name   \
                 ", 1, 1, 1, 1;\n"                                                               \
                 : __VA_ARGS__                                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                          \
  }
#define MILI_REGISTERS_64(E, shape) \
  MILI_REGISTERS(E, 64, shape, MILI_SUM_NAMES_32, "%32, %33, %34, %35", "36", MILI_SUMS_32(0))
#define MILI_REGISTERS_128(E, shape)                                                            \
  MILI_REGISTERS(E, 128, shape, MILI_SUM_NAMES_64, "%64, %65, %66, %67", "68", MILI_SUMS_32(0), \
                 MILI_SUMS_32(32))

MILI_REGISTERS_64(Bf16, "m64n64k16.f32.bf16.bf16")
MILI_REGISTERS_128(Bf16, "m64n128k16.f32.bf16.bf16")
MILI_REGISTERS_64(F16, "m64n64k16.f32.f16.f16")
MILI_REGISTERS_128(F16, "m64n128k16.f32.f16.f16")

#undef MILI_REGISTERS_128
#undef MILI_REGISTERS_64
#undef MILI_REGISTERS
#undef MILI_TILES_256
#undef MILI_TILES_128
#undef MILI_TILES_64
#undef MILI_TILES_16
#undef MILI_TILES
#undef MILI_SUMS_32
#undef MILI_SUMS_8
#undef MILI_SUM_NAMES_128
#undef MILI_SUM_NAMES_64
#undef MILI_SUM_NAMES_32
#undef MILI_SUM_NAMES_8

// Copies the box of `map` at (c0, c1, c2, c3), innermost first, and completes its bytes on
// `barrier`. What lies outside the tensor becomes zero and counts as copied.
__device__ __forceinline__ void CopyBox(uint32_t shared_address, const CUtensorMap& map, int32_t c0,
                                        int32_t c1, int32_t c2, int32_t c3, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address),
      "l"(&map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier)
      : "memory");
}

// The same of a matrix and its box at (c0, c1).
__device__ __forceinline__ void CopyBox(uint32_t shared_address, const CUtensorMap& map, int32_t c0,
                                        int32_t c1, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3}], [%4];" ::"r"(shared_address),
      "l"(&map), "r"(c0), "r"(c1), "r"(barrier)
      : "memory");
}

// The same with a cache hint (bulk_copy.cuh).
__device__ __forceinline__ void CopyBox(uint32_t shared_address, const CUtensorMap& map, int32_t c0,
                                        int32_t c1, uint32_t barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address),
      "l"(&map), "r"(c0), "r"(c1), "r"(barrier), "l"(policy)
      : "memory");
}

// The first with a cache hint.
__device__ __forceinline__ void CopyBox(uint32_t shared_address, const CUtensorMap& map, int32_t c0,
                                        int32_t c1, int32_t c2, int32_t c3, uint32_t barrier,
                                        uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(shared_address),
      "l"(&map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier), "l"(policy)
      : "memory");
}

// The second to this place and on this barrier in both blocks of a cluster of two.
__device__ __forceinline__ void CopyBoxToPair(uint32_t shared_address, const CUtensorMap& map,
                                              int32_t c0, int32_t c1, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address),
      "l"(&map), "r"(c0), "r"(c1), "r"(barrier), "h"(static_cast<uint16_t>(3))
      : "memory");
}

// Writes a box at (c0, c1) of `map` from shared memory, which must hold until WaitForBoxReads by
// the same thread; what lies outside the matrix is left out.
__device__ __forceinline__ void StoreBox(const CUtensorMap& map, int32_t c0, int32_t c1,
                                         uint32_t shared_address) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];\n"
      "cp.async.bulk.commit_group;" ::"l"(&map),
      "r"(c0), "r"(c1), "r"(shared_address)
      : "memory");
}
__device__ __forceinline__ void WaitForBoxReads() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

// Makes this thread's ordinary writes to shared memory visible to products and copies.
__device__ __forceinline__ void PublishToTensorCores() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// The calling warpgroup's share of the registers from now on; a multiple of 8.
template <int kRegisters>
__device__ __forceinline__ void KeepRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Barriers of a part of the block, by number (1 to 15): `num_threads` arrive, those of Sync wait.
__device__ __forceinline__ void SyncThreads(int number, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(num_threads) : "memory");
}
__device__ __forceinline__ void ArriveThreads(int number, int num_threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(num_threads) : "memory");
}

}  // namespace mili::kernels::cuda

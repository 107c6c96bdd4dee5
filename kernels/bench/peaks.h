// What the machine could do at most, measured beside the kernels: reading memory, and the rate of
// multiply-adds out of registers, by the widest instructions that a table of kernels uses.
#pragma once

#include "kernels/params.h"

namespace mili::kernels {

enum class Arithmetic { kInt8, kInt16, kBf16, kFp32 };

// Multiply-adds a second of all threads together, the best of several passes of some milliseconds;
// 0 where the table has no such instruction. With AMX a multiply-add of BF16 counts two products,
// since an activation is two BF16; without, it is the CPU's, which the table does not use.
double PeakMacs(const CpuKernels& table, Arithmetic arithmetic, ParallelFor& pool);

// How long all threads together take to read `bytes`, a multiple of 256, once, without using them.
double ReadSeconds(const std::byte* data, size_t bytes, ParallelFor& pool);

}  // namespace mili::kernels

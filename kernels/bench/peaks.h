// What the machine could do at most, measured beside the kernels: reading memory, and the rate of
// multiply-adds out of registers, by the widest instructions that a table of kernels uses.
#pragma once

#include "kernels/params.h"

namespace mili::kernels {

// Multiply-adds a second of all threads together; 0 where the table has no such instruction.
struct Peaks {
  double int8_macs_per_s = 0;
  double int16_macs_per_s = 0;
  double fp32_macs_per_s = 0;
};

// Best of several passes, some milliseconds each.
Peaks MeasurePeaks(const CpuKernels& table, ParallelFor& pool);

// How long all threads together take to read `bytes`, a multiple of 256, once, without using them.
double ReadSeconds(const std::byte* data, size_t bytes, ParallelFor& pool);

}  // namespace mili::kernels

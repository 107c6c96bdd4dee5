// The tables of the instruction sets, one source file each with its own compiler flags. Only
// kernels.cc calls these, after it has asked the CPU.
#pragma once

#include "kernels/params.h"

namespace mili::kernels {

const CpuKernels& AmxKernels();
const CpuKernels& Avx512VnniKernels();
const CpuKernels& AvxVnniKernels();
const CpuKernels& Avx2Kernels();
const CpuKernels& NeonDotKernels();
const CpuKernels& PortableKernels();

}  // namespace mili::kernels

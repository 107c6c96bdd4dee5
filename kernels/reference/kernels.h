// The reference kernels: plain fp32 loops that define what is right, with fp32 KV. They also serve
// (--cpu-kernels reference).
#pragma once

#include "kernels/params.h"

namespace mili::kernels {

const CpuKernels& ReferenceKernels();

}  // namespace mili::kernels

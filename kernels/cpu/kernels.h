// The fast CPU kernels, chosen by what this CPU can do.
#pragma once

#include <string>

#include "kernels/params.h"

namespace mili::kernels {

// The best table this CPU can run. Never fails: "portable" runs anywhere.
const CpuKernels& BestCpuKernels();

// The table of that name ("avx512_vnni", "avx_vnni", "avx2", "neon_dot",
// "portable"), or null if there is none or this CPU cannot run it.
const CpuKernels* FindCpuKernels(const char* name);

// Names of all tables this CPU can run, best first, space-separated; for messages.
std::string RunnableCpuKernels();

}  // namespace mili::kernels

// SiLU of the gate times up.
#pragma once

#include "kernels/params.h"

namespace mili::kernels::reference {

void SiluMul(const SiluMulParams& p, ParallelFor& pool);

}  // namespace mili::kernels::reference

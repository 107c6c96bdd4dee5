// Residual add and RMS norm.
#pragma once

#include "kernels/params.h"

namespace mili::kernels::reference {

void AddRmsNorm(const AddRmsNormParams& p, ParallelFor& pool);

}  // namespace mili::kernels::reference

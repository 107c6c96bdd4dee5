// y = x W^T + bias: weights dequantised to fp32 a row at a time, fp32 sums.
#pragma once

#include <cstddef>

#include "kernels/params.h"

namespace mili::kernels::reference {

size_t LinearWorkspaceBytes(int64_t num_tokens, int64_t in_features);
void Linear(const LinearParams& p, ParallelFor& pool);

}  // namespace mili::kernels::reference

// Causal attention over pages.
#pragma once

#include "kernels/params.h"

namespace mili::kernels::reference {

void PagedAttention(const PagedAttentionParams& p, ParallelFor& pool);

}  // namespace mili::kernels::reference

// Per-head norm and rotary embedding of q and k, and the write of k and v to their pages.
#pragma once

#include "kernels/params.h"

namespace mili::kernels::reference {

void QkvPrepare(const QkvPrepareParams& p, ParallelFor& pool);

}  // namespace mili::kernels::reference

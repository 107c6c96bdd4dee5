// Embedding lookup.
#pragma once

#include "kernels/params.h"

namespace mili::kernels::reference {

void Embed(const EmbedParams& p, ParallelFor& pool);

}  // namespace mili::kernels::reference

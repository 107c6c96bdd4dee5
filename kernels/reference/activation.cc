#include "kernels/reference/activation.h"

#include <cmath>

#include "kernels/reference/share.h"

namespace mili::kernels::reference {

void SiluMul(const SiluMulParams& p, ParallelFor& pool) {
  ForEachShare(pool, p.num_tokens * p.size, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float x = p.gate[i];
      p.out[i] = x / (1.0f + std::exp(-x)) * p.up[i];
    }
  });
}

}  // namespace mili::kernels::reference

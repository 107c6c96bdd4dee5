#include "kernels/reference/norm.h"

#include <cmath>

#include "kernels/reference/lanes.h"
#include "kernels/reference/share.h"

namespace mili::kernels::reference {

void AddRmsNorm(const AddRmsNormParams& p, ParallelFor& pool) {
  const int64_t n = p.hidden_size;
  ForEachShare(pool, p.num_tokens, n, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* residual = p.residual + t * n;
      if (p.delta != nullptr) {
        for (int64_t i = 0; i < n; ++i) residual[i] += p.delta[t * n + i];
      }
      const float mean = Dot(residual, residual, n) / static_cast<float>(n);
      const float scale = 1.0f / std::sqrt(mean + p.eps);
      for (int64_t i = 0; i < n; ++i) p.out[t * n + i] = residual[i] * scale * p.weight[i];
    }
  });
}

}  // namespace mili::kernels::reference

#include "kernels/reference/embed.h"

#include "kernels/reference/dequant.h"
#include "kernels/reference/share.h"

namespace mili::kernels::reference {

void Embed(const EmbedParams& p, ParallelFor& pool) {
  const int64_t row_bytes = RowBytes(p.table.dtype, p.table.cols);
  ForEachShare(pool, p.num_tokens, p.table.cols, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      Dequantize(p.table.dtype, p.table.data + p.token_ids[t] * row_bytes, p.table.cols,
                 p.out + t * p.table.cols);
    }
  });
}

}  // namespace mili::kernels::reference

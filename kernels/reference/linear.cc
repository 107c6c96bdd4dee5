#include "kernels/reference/linear.h"

#include <algorithm>

#include "kernels/reference/activation.h"
#include "kernels/reference/dequant.h"
#include "kernels/reference/lanes.h"
#include "kernels/reference/norm.h"
#include "kernels/reference/share.h"

namespace mili::kernels::reference {
namespace {

// Columns dequantised at a time: on the stack, a multiple of every block size and of the lanes.
constexpr int64_t kTileColumns = 2048;

// Adds tile . x to y for every token; `first` starts the sum.
MILI_MULTIVERSION
void AddTile(const float* tile, int64_t width, const float* x, int64_t x_stride, int64_t num_tokens,
             bool first, float* y, int64_t y_stride) {
  for (int64_t t = 0; t < num_tokens; ++t) {
    const float dot = Dot(x + t * x_stride, tile, width);
    y[t * y_stride] = first ? dot : y[t * y_stride] + dot;
  }
}

// One weight row against all tokens. The row is dequantised once, tile by tile; y holds the sum of
// the tiles done so far.
void OneRow(const LinearParams& p, const LinearPart& part, int64_t row) {
  alignas(64) float tile[kTileColumns];
  const Matrix& weight = part.weight;
  const std::byte* data = weight.data + row * RowBytes(weight.dtype, weight.cols);
  for (int64_t col = 0; col < weight.cols; col += kTileColumns) {
    const int64_t width = std::min(kTileColumns, weight.cols - col);
    Dequantize(weight.dtype, data + RowBytes(weight.dtype, col), width, tile);
    AddTile(tile, width, p.x + col, p.in_features, p.num_tokens, col == 0, part.y + row,
            part.y_stride);
  }
  if (part.bias == nullptr) return;
  for (int64_t t = 0; t < p.num_tokens; ++t) part.y[t * part.y_stride + row] += part.bias[row];
}

}  // namespace

size_t LinearWorkspaceBytes(int64_t, int64_t) { return 0; }

void Linear(const LinearParams& p, ParallelFor& pool) {
  if (p.norm != nullptr) AddRmsNorm(*p.norm, pool);
  int64_t num_rows = 0;
  for (int i = 0; i < p.num_parts; ++i) num_rows += p.parts[i].weight.rows;
  ForEachShare(pool, num_rows, p.in_features, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // of the part, among all rows
    for (int i = 0; i < p.num_parts; ++i) {
      const LinearPart& part = p.parts[i];
      const int64_t part_end = std::min(end, first + part.weight.rows);
      for (int64_t row = std::max(begin, first); row < part_end; ++row) {
        OneRow(p, part, row - first);
      }
      first += part.weight.rows;
    }
  });
  if (!p.silu_mul) return;
  const LinearPart& gate = p.parts[0];
  SiluMul({gate.y, p.parts[1].y, p.num_tokens, gate.weight.rows, gate.y}, pool);
}

}  // namespace mili::kernels::reference

// How BF16 matrices lie for the tables that multiply pairs of 16-bit integers. In blocks of 32
// columns, a row's weights become integers within +-8160 times a power of two: exact but for those
// below 1/32 of their block's largest, which are off by half a unit at most. Plain functions for
// any thread and any CPU; no state.
//
// As in kernels/cpu/packed.h rows lie in groups of 16. A group holds the units' exponents, as fp32
// has them, [blocks][16] bytes and up to a multiple of 64, then [blocks][16][16] dwords of two
// columns; zeros fill the last block. A row's block with an infinity, a NaN or a weight above 2^116
// has the exponent 255, so that what it is multiplied with is not finite.
#pragma once

#include "kernels/params.h"

namespace mili::kernels {

inline constexpr int64_t kWordColumns = 32;
inline constexpr int64_t kWordBlockBytes = kPackedRows * kWordColumns * 2;

constexpr int64_t NumWordBlocks(int64_t cols) { return (cols + kWordColumns - 1) / kWordColumns; }
constexpr int64_t WordExponentBytes(int64_t cols) {
  return (NumWordBlocks(cols) * kPackedRows + 63) / 64 * 64;
}
constexpr int64_t WordGroupBytes(int64_t cols) {
  return WordExponentBytes(cols) + NumWordBlocks(cols) * kWordBlockBytes;
}

// Lays `num_rows` rows of `cols` BF16 out in groups at `to`: whole groups but for the end of the
// matrix.
void PackWordRows(const std::byte* rows, int64_t num_rows, int64_t cols, std::byte* to);

// out[0, cols) = the values of a row of a matrix so laid out.
void UnpackWordRow(const Matrix& packed, int64_t row, float* out);

}  // namespace mili::kernels

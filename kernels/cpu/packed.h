// How matrices lie for the fast Linear: rows interleaved in groups of 16, so that one load holds
// the same four columns of 16 rows and a dot product needs no sum across lanes. The same bytes as
// the rows had, only moved; the last group is filled up with rows of zeros. Plain functions for any
// thread and any CPU; no state.
//
// A group is a run of units: blocks of 256 columns of the K types, else two blocks of 32 (one,
// where their number is odd), of all 16 rows. A unit holds, with b its blocks of 32 columns:
//   scales    [b][d or d, m][16] halves; Q4_K, Q5_K: [4][16] dwords, the block's first 16 bytes;
//             Q6_K: [4][16] dwords of the int8 scales, then [16] halves
//   high bits Q5: [b][16] dwords, bit 8 i + j is bit 4 of column 4 j + i
//             Q6: [b][2][16] dwords, bits 8 i + 2 k .. are bits 4, 5 of column 16 h + 4 k + i
//   weights   [b][8][16] dwords of 4 columns (Q8_0), or [b][4][16] dwords of nibbles: the low ones
//             of dword j are columns 4 j .. 4 j + 3, the high ones 16 columns on
// BF16: [columns / 2][16] dwords of two columns. F16: [columns][16] halves, F32: [columns][16]. An
// odd last column is followed by zeros.
#pragma once

#include "kernels/params.h"

namespace mili::kernels {

// Where the parts of a unit lie, for a quantised type and `cols` columns.
struct PackedUnit {
  int64_t num_blocks = 0;  // of 32 columns: 1, 2 or 8
  int64_t high_bits_offset = 0;
  int64_t weights_offset = 0;
  int64_t size_bytes = 0;
};

// Always inline: code for one instruction set calls it.
[[gnu::always_inline]] constexpr PackedUnit PackedUnitOf(DType dtype, int64_t cols) {
  const bool has_one = dtype == DType::kQ5_0 || dtype == DType::kQ5_1 || dtype == DType::kQ5_K;
  const int64_t high_bits = dtype == DType::kQ6_K ? 2 : has_one;
  const int64_t bits = high_bits + (dtype == DType::kQ8_0 ? 8 : 4);
  PackedUnit unit;
  unit.num_blocks = TraitsOf(dtype).block_elements == 256 ? 8 : (cols / 32) % 2 == 0 ? 2 : 1;
  unit.size_bytes = kPackedRows * static_cast<int64_t>(RowBytes(dtype, unit.num_blocks * 32));
  unit.high_bits_offset = unit.size_bytes - kPackedRows * unit.num_blocks * 4 * bits;
  unit.weights_offset = unit.high_bits_offset + kPackedRows * unit.num_blocks * 4 * high_bits;
  return unit;
}

constexpr int64_t PackedGroupBytes(DType dtype, int64_t cols) {
  const int64_t whole = IsQuantized(dtype) ? cols : (cols + 1) / 2 * 2;
  return kPackedRows * static_cast<int64_t>(RowBytes(dtype, whole));
}

// What a table wants of BF16: pairs as above, or kernels/cpu/packed_words.h.
enum class Bf16Layout { kPairs, kWords };

size_t PackedBytes(Bf16Layout bf16, DType dtype, int64_t rows, int64_t cols);

// Lays `num_rows` rows out in groups at `to`: whole groups but for the end of the matrix. `rows`
// and `to` do not overlap.
void PackRows(Bf16Layout bf16, DType dtype, const std::byte* rows, int64_t num_rows, int64_t cols,
              std::byte* to);

// Embed for a table that may be packed.
void EmbedPacked(Bf16Layout bf16, const EmbedParams& p, ParallelFor& pool);

}  // namespace mili::kernels

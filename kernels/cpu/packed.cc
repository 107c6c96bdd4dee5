#include "kernels/cpu/packed.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/packed_words.h"
#include "kernels/reference/dequant.h"
#include "kernels/reference/embed.h"
#include "kernels/reference/share.h"

namespace mili::kernels {
namespace {

constexpr int64_t kRows = kPackedRows;

// Columns [begin, end) of a row of num_all; begin is a multiple of 256.
struct Columns {
  int64_t begin;
  int64_t end;
  int64_t num_all;
};

// Where a row's bytes go: `bytes` consecutive ones at a time, one run for each of the 16 rows.
template <typename T>
class Lanes {
 public:
  Lanes(uint8_t* base, int64_t row) : base_(base + row * static_cast<int64_t>(sizeof(T))) {}
  uint8_t* At(int64_t i) const { return base_ + i * kRows * static_cast<int64_t>(sizeof(T)); }

 private:
  uint8_t* base_;
};

// Moves bytes between a row and its place in a group, in the direction of packing or back.
template <bool kPack>
void Move(uint8_t* in_row, uint8_t* in_group, size_t bytes) {
  if (kPack) {
    std::memcpy(in_group, in_row, bytes);
  } else {
    std::memcpy(in_row, in_group, bytes);
  }
}

// Where the parts of one row lie in a unit.
struct RowPlaces {
  Lanes<uint32_t> weights;
  Lanes<uint32_t> high_bits;
  uint8_t* scales;
  int64_t row;
};

template <bool kPack>
void MoveDwords(uint8_t* in_row, const Lanes<uint32_t>& lanes, int64_t first, int64_t count) {
  for (int64_t i = 0; i < count; ++i) Move<kPack>(in_row + 4 * i, lanes.At(first + i), 4);
}

template <bool kPack>
void MoveHalves(uint8_t* in_row, uint8_t* scales, int64_t row, int64_t first, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    Move<kPack>(in_row + 2 * i, scales + ((first + i) * kRows + row) * 2, 2);
  }
}

// Bit 4 j + i of `bits` stands for column 4 j + i; packed it is bit 8 i + j.
template <bool kPack>
void MoveFifthBits(uint8_t* in_row, uint8_t* in_group) {
  uint32_t from = 0, to = 0;
  std::memcpy(&from, kPack ? in_row : in_group, 4);
  for (int j = 0; j < 8; ++j) {
    for (int i = 0; i < 4; ++i) {
      const int stored = 4 * j + i, packed = 8 * i + j;
      to |= ((from >> (kPack ? stored : packed)) & 1) << (kPack ? packed : stored);
    }
  }
  std::memcpy(kPack ? in_group : in_row, &to, 4);
}

// Blocks of 32 with d, or d and m, in front: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1.
template <bool kPack>
void MoveSimpleBlocks(DType dtype, uint8_t* in_row, int64_t num_blocks, const RowPlaces& to) {
  const int64_t num_dwords = dtype == DType::kQ8_0 ? 8 : 4;
  const int64_t num_halves = dtype == DType::kQ4_1 || dtype == DType::kQ5_1 ? 2 : 1;
  const bool has_fifth = dtype == DType::kQ5_0 || dtype == DType::kQ5_1;
  for (int64_t b = 0; b < num_blocks; ++b) {
    MoveHalves<kPack>(in_row, to.scales, to.row, b * num_halves, num_halves);
    in_row += 2 * num_halves;
    if (has_fifth) {
      MoveFifthBits<kPack>(in_row, to.high_bits.At(b));
      in_row += 4;
    }
    MoveDwords<kPack>(in_row, to.weights, b * num_dwords, num_dwords);
    in_row += 4 * num_dwords;
  }
}

// Blocks of 256. Four neighbouring columns are bits of four neighbouring bytes, stored or packed,
// so a dword is moved at a time. Place of column c: the byte of its dword, and the shift.
struct Place {
  int64_t byte;
  int shift;
};
// As stored in a block, c < 256: the low nibbles and the high bits.
constexpr Place LowPlace(DType dtype, int64_t c) {
  if (dtype == DType::kQ6_K) return {c / 128 * 64 + c % 64, c % 128 < 64 ? 0 : 4};
  return {c / 64 * 32 + c % 32, c % 64 < 32 ? 0 : 4};
}
constexpr Place HighPlace(DType dtype, int64_t c) {
  if (dtype == DType::kQ6_K) return {c / 128 * 32 + c % 32, static_cast<int>(c % 128 / 32 * 2)};
  return {c % 32, static_cast<int>(c / 32)};
}
// As packed, c < 32; `mask` of the high bits is 1 or 3.
constexpr Place PackedLow(int64_t c) { return {c % 16, c < 16 ? 0 : 4}; }
constexpr Place PackedHigh(uint32_t mask, int64_t c) {
  if (mask == 1) return {0, static_cast<int>(c / 4)};
  return {c / 16 * 4, static_cast<int>(c % 16 / 4 * 2)};
}

// Copies four columns' bits to a place that holds zeros.
void MoveBits(const uint8_t* from, const Place& from_place, uint8_t* to, const Place& to_place,
              uint32_t mask) {
  uint32_t bits = 0, old = 0;
  std::memcpy(&bits, from + from_place.byte, 4);
  std::memcpy(&old, to + to_place.byte, 4);
  old |= ((bits >> from_place.shift) & (mask * 0x01010101)) << to_place.shift;
  std::memcpy(to + to_place.byte, &old, 4);
}

struct KFormat {
  int64_t block_bytes;
  int64_t low_offset;
  int64_t high_offset;
  uint32_t high_mask;  // 0: no high bits
};
constexpr KFormat KFormatOf(DType dtype) {
  if (dtype == DType::kQ4_K) return {144, 16, 0, 0};
  if (dtype == DType::kQ5_K) return {176, 48, 16, 1};
  return {210, 0, 128, 3};
}

template <bool kPack>
void MoveKValues(DType dtype, uint8_t* block, const RowPlaces& to) {
  const KFormat format = KFormatOf(dtype);
  const int64_t high_dwords = format.high_mask == 3 ? 2 : format.high_mask;
  uint8_t* stored_low = block + format.low_offset;
  uint8_t* stored_high = block + format.high_offset;
  for (int64_t sub = 0; sub < 8; ++sub) {
    uint8_t low[16] = {}, high[8] = {};
    if (!kPack) {
      MoveDwords<false>(low, to.weights, sub * 4, 4);
      MoveDwords<false>(high, to.high_bits, sub * high_dwords, high_dwords);
    }
    for (int64_t c = 0; c < 32; c += 4) {
      const Place low_place = LowPlace(dtype, 32 * sub + c);
      const Place high_place = HighPlace(dtype, 32 * sub + c);
      const Place packed_high = PackedHigh(format.high_mask, c);
      if (kPack) {
        MoveBits(stored_low, low_place, low, PackedLow(c), 15);
        if (high_dwords > 0) {
          MoveBits(stored_high, high_place, high, packed_high, format.high_mask);
        }
      } else {
        MoveBits(low, PackedLow(c), stored_low, low_place, 15);
        if (high_dwords > 0) {
          MoveBits(high, packed_high, stored_high, high_place, format.high_mask);
        }
      }
    }
    if (kPack) {
      MoveDwords<true>(low, to.weights, sub * 4, 4);
      MoveDwords<true>(high, to.high_bits, sub * high_dwords, high_dwords);
    }
  }
}

template <bool kPack>
void MoveKBlock(DType dtype, uint8_t* in_row, const RowPlaces& to) {
  if (!kPack) std::memset(in_row, 0, KFormatOf(dtype).block_bytes);
  MoveKValues<kPack>(dtype, in_row, to);
  const Lanes<uint32_t> scales(to.scales, to.row);
  if (dtype == DType::kQ6_K) {
    MoveDwords<kPack>(in_row + 192, scales, 0, 4);
    MoveHalves<kPack>(in_row + 208, to.scales + kRows * 16, to.row, 0, 1);
  } else {
    MoveDwords<kPack>(in_row, scales, 0, 4);
  }
}

template <bool kPack>
void MoveFloats(DType dtype, uint8_t* in_row, const Columns& columns, uint8_t* group, int64_t row) {
  const int64_t count = columns.end - columns.begin;
  const Lanes<uint32_t> to(group, row);
  if (dtype == DType::kF32) return MoveDwords<kPack>(in_row, to, columns.begin, count);
  if (dtype == DType::kF16) return MoveHalves<kPack>(in_row, group, row, columns.begin, count);
  MoveDwords<kPack>(in_row, to, columns.begin / 2, count / 2);
  if (count % 2 != 0) Move<kPack>(in_row + 2 * (count - 1), to.At(columns.end / 2), 2);
}

// Moves `columns` of a row; `in_row` is where the first of them lies.
template <bool kPack>
void MoveRow(DType dtype, uint8_t* in_row, const Columns& columns, uint8_t* group, int64_t row) {
  if (!IsQuantized(dtype)) return MoveFloats<kPack>(dtype, in_row, columns, group, row);
  const PackedUnit unit = PackedUnitOf(dtype, columns.num_all);
  const int64_t unit_cols = unit.num_blocks * 32;
  for (int64_t i = columns.begin / unit_cols; i < columns.end / unit_cols; ++i) {
    uint8_t* base = group + i * unit.size_bytes;
    const RowPlaces to = {Lanes<uint32_t>(base + unit.weights_offset, row),
                          Lanes<uint32_t>(base + unit.high_bits_offset, row), base, row};
    if (unit.num_blocks == 8) {
      MoveKBlock<kPack>(dtype, in_row, to);
    } else {
      MoveSimpleBlocks<kPack>(dtype, in_row, unit.num_blocks, to);
    }
    in_row += RowBytes(dtype, unit_cols);
  }
}

// out[0, cols) = a row's values.
void DequantizePackedRow(const Matrix& packed, int64_t row, float* out) {
  constexpr int64_t kColumns = 1024;  // a multiple of every block
  auto* group = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(packed.data)) +
                row / kRows * PackedGroupBytes(packed.dtype, packed.cols);
  for (int64_t begin = 0; begin < packed.cols; begin += kColumns) {
    const int64_t end = std::min(begin + kColumns, packed.cols);
    uint8_t stored[kColumns * 4];
    MoveRow<false>(packed.dtype, stored, {begin, end, packed.cols}, group, row % kRows);
    Dequantize(packed.dtype, reinterpret_cast<const std::byte*>(stored), end - begin, out + begin);
  }
}

bool IsWords(Bf16Layout bf16, DType dtype) {
  return dtype == DType::kBF16 && bf16 == Bf16Layout::kWords;
}

}  // namespace

size_t PackedBytes(Bf16Layout bf16, DType dtype, int64_t rows, int64_t cols) {
  const int64_t group_bytes =
      IsWords(bf16, dtype) ? WordGroupBytes(cols) : PackedGroupBytes(dtype, cols);
  return static_cast<size_t>((rows + kRows - 1) / kRows * group_bytes);
}

void PackRows(Bf16Layout bf16, DType dtype, const std::byte* rows, int64_t num_rows, int64_t cols,
              std::byte* to) {
  if (IsWords(bf16, dtype)) return PackWordRows(rows, num_rows, cols, to);
  const int64_t group_bytes = PackedGroupBytes(dtype, cols);
  const auto row_bytes = static_cast<int64_t>(RowBytes(dtype, cols));
  for (int64_t row = 0; row < num_rows; ++row) {
    auto* group = reinterpret_cast<uint8_t*>(to) + row / kRows * group_bytes;
    const bool is_filled = num_rows - row / kRows * kRows >= kRows && cols % 2 == 0;
    if (row % kRows == 0 && !is_filled) std::memset(group, 0, group_bytes);
    // Packing only reads the row.
    auto* in_row = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(rows + row * row_bytes));
    MoveRow<true>(dtype, in_row, {0, cols, cols}, group, row % kRows);
  }
}

void EmbedPacked(Bf16Layout bf16, const EmbedParams& p, ParallelFor& pool) {
  if (!p.table.is_packed) return reference::Embed(p, pool);
  ForEachShare(pool, p.num_tokens, p.table.cols, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* out = p.out + t * p.table.cols;
      if (IsWords(bf16, p.table.dtype)) {
        UnpackWordRow(p.table, p.token_ids[t], out);
      } else {
        DequantizePackedRow(p.table, p.token_ids[t], out);
      }
    }
  });
}

}  // namespace mili::kernels

#include "kernels/cpu/packed_words.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace mili::kernels {
namespace {

// The largest weight of a block of exponent e has the unit of exponent e - 12, its integer 13 bits.
// Within these limits both the unit and its inverse are ordinary numbers.
constexpr uint32_t kUnitBits = 12;
constexpr uint32_t kLeastExponent = 16;
constexpr uint32_t kLargestExponent = 243;
constexpr uint8_t kNotFinite = 255;

float PowerOfTwo(uint32_t exponent) { return std::bit_cast<float>(exponent << 23); }

// The integers of one row's block and, returned, the exponent of their unit.
uint8_t WordsOf(const uint16_t* bf16, int16_t* words) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < kWordColumns; ++i) {
    largest = std::max(largest, static_cast<uint32_t>(bf16[i] & 0x7fff));
  }
  const uint32_t exponent = std::max(largest >> 7, kLeastExponent);
  if (exponent > kLargestExponent) {
    std::fill_n(words, kWordColumns, int16_t{0});
    return kNotFinite;
  }
  const uint32_t unit = exponent - kUnitBits;
  const float inverse = PowerOfTwo(254 - unit);
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  for (int64_t i = 0; i < kWordColumns; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(bf16[i]) << 16);
    words[i] = static_cast<int16_t>(std::bit_cast<int32_t>(value * inverse + kRound));
  }
  return static_cast<uint8_t>(unit);
}

}  // namespace

void PackWordRows(const std::byte* rows, int64_t num_rows, int64_t cols, std::byte* to) {
  for (int64_t row = 0; row < num_rows; ++row) {
    std::byte* group = to + row / kPackedRows * WordGroupBytes(cols);
    const int64_t lane = row % kPackedRows;
    if (lane == 0) std::memset(group, 0, WordGroupBytes(cols));
    const std::byte* from = rows + row * cols * 2;
    for (int64_t block = 0; block < NumWordBlocks(cols); ++block) {
      uint16_t stored[kWordColumns] = {};
      int16_t words[kWordColumns];
      const int64_t first = block * kWordColumns;
      std::memcpy(stored, from + first * 2, std::min(kWordColumns, cols - first) * 2);
      group[block * kPackedRows + lane] = std::byte{WordsOf(stored, words)};
      std::byte* pairs = group + WordExponentBytes(cols) + block * kWordBlockBytes + lane * 4;
      for (int64_t i = 0; i < kWordColumns; i += 2) {
        std::memcpy(pairs + i / 2 * kPackedRows * 4, &words[i], 4);
      }
    }
  }
}

void UnpackWordRow(const Matrix& packed, int64_t row, float* out) {
  const std::byte* group = packed.data + row / kPackedRows * WordGroupBytes(packed.cols);
  const int64_t lane = row % kPackedRows;
  for (int64_t i = 0; i < packed.cols; ++i) {
    const int64_t block = i / kWordColumns;
    const std::byte* pair = group + WordExponentBytes(packed.cols) + block * kWordBlockBytes +
                            i % kWordColumns / 2 * kPackedRows * 4 + lane * 4;
    int16_t word = 0;
    std::memcpy(&word, pair + i % 2 * 2, 2);
    const auto unit = static_cast<uint32_t>(group[block * kPackedRows + lane]);
    out[i] = static_cast<float>(word) * PowerOfTwo(unit);
  }
}

}  // namespace mili::kernels

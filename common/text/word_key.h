// A short word as a number: its bytes in two machine words, with its size in the last byte. What
// the tables of words compare and hash. Pure functions, any thread.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace mili::text {

struct WordKey {
  static constexpr size_t kMaxBytes = 15;

  uint64_t low = 0;
  uint64_t high = 0;  // never 0: a word has a size

  bool operator==(const WordKey&) const = default;

  uint64_t Hash() const {
    // Either factor is odd, so that no bit of the word is lost; the first bits are the best.
    const uint64_t mixed = low * 0x9E3779B97F4A7C15u ^ (high * 0xC2B2AE3D27D4EB4Fu);
    return (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9u;
  }
};

// The bytes of a word in its key, by its size; a table, since sizes are hard to predict.
inline constexpr std::array<WordKey, WordKey::kMaxBytes + 1> kWordMasks = [] {
  std::array<WordKey, WordKey::kMaxBytes + 1> masks{};
  for (size_t size = 1; size <= WordKey::kMaxBytes; ++size) {
    masks[size].low = size >= 8 ? UINT64_MAX : (uint64_t{1} << 8 * size) - 1;
    masks[size].high = size <= 8 ? 0 : (uint64_t{1} << 8 * (size - 8)) - 1;
  }
  return masks;
}();

// The key of a word of 1 to 15 bytes, of which 16 may be read.
inline WordKey WordKeyOfReadable(const char* word, size_t size) {
  uint64_t halves[2];
  std::memcpy(halves, word, sizeof(halves));
  if constexpr (std::endian::native == std::endian::big) {
    for (uint64_t& half : halves) half = __builtin_bswap64(half);
  }
  const WordKey& mask = kWordMasks[size];
  return {halves[0] & mask.low, (halves[1] & mask.high) | uint64_t{size} << 56};
}

inline WordKey WordKeyOf(std::string_view word) {
  char bytes[16] = {};
  std::memcpy(bytes, word.data(), word.size());
  return WordKeyOfReadable(bytes, word.size());
}

}  // namespace mili::text

// Short words as numbers: their bytes in a few machine words, with the size in the last byte. What
// the tables of words compare and hash. Pure functions, any thread.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace mili::text {

// A word of 1 to 15 bytes. The second number is never 0: a word has a size.
struct WordKey {
  static constexpr size_t kMaxBytes = 15;

  std::array<uint64_t, 2> words;

  static WordKey Of(std::string_view word) {
    char bytes[16] = {};
    std::memcpy(bytes, word.data(), word.size());
    bytes[kMaxBytes] = static_cast<char>(word.size());
    WordKey key;
    std::memcpy(key.words.data(), bytes, sizeof(bytes));
    if constexpr (std::endian::native == std::endian::big) {
      for (uint64_t& part : key.words) part = __builtin_bswap64(part);
    }
    return key;
  }

  // By hand: that of std::array calls memcmp.
  bool operator==(const WordKey& other) const {
    return ((words[0] ^ other.words[0]) | (words[1] ^ other.words[1])) == 0;
  }

  uint64_t Hash() const {
    // The factors are odd, so that no bit of the word is lost; the first bits depend on all, the
    // last on few.
    return words[0] * 0x9E3779B97F4A7C15u + words[1] * 0xC2B2AE3D27D4EB51u;
  }
};

// The bytes of a word in its key, by its size; a table, since sizes are hard to predict.
inline constexpr std::array<WordKey, WordKey::kMaxBytes + 1> kWordMasks = [] {
  std::array<WordKey, WordKey::kMaxBytes + 1> masks{};
  for (size_t size = 1; size <= WordKey::kMaxBytes; ++size) {
    masks[size].words[0] = size >= 8 ? UINT64_MAX : (uint64_t{1} << 8 * size) - 1;
    masks[size].words[1] = size <= 8 ? 0 : (uint64_t{1} << 8 * (size - 8)) - 1;
  }
  return masks;
}();

// The key of a word of 1 to 15 bytes, of which 16 may be read.
inline WordKey WordKeyOfReadable(const char* word, size_t size) {
  WordKey key;
  std::memcpy(key.words.data(), word, 16);
  if constexpr (std::endian::native == std::endian::big) {
    for (uint64_t& part : key.words) part = __builtin_bswap64(part);
  }
  key.words[0] &= kWordMasks[size].words[0];
  key.words[1] = (key.words[1] & kWordMasks[size].words[1]) | uint64_t{size} << 56;
  return key;
}

}  // namespace mili::text

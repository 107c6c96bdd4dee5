// Where a word may be cut and its pieces encoded alone: between two characters that no token holds
// side by side, since a merge across would make such a token. Looks at characters of three bytes,
// in which most scripts without spaces are written. Immutable once made, any thread.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "common/text/ascii_block.h"
#include "common/text/token_bytes.h"

namespace mili::text {

class WordSeams {
 public:
  // Of the tokens that can come of text. `bytes` is read during the call only.
  explicit WordSeams(const TokenBytes& bytes);

  // Whether to look into a word (valid UTF-8): false for most that have no seam.
  static bool AreLikely(const char* word, size_t size) {
    return size >= 6 && IsWideLead(word[size - 3]);
  }
  // At most this far behind a place seams are looked for at once.
  static constexpr size_t kReach = 64;
  // Where seams may be in the `size` bytes from p on, or in the first kReach of them: bit i is
  // before p + i. kReach bytes may be read.
  static uint64_t PlacesFrom(const char* p, size_t size) {
    const auto leads_at = [p](int i) { return uint64_t{BytesWithin(p + i, 0xE0, 0xEF)} << i; };
    static_assert(kReach == 4 * kBlockBytes);
    const uint64_t leads = leads_at(0) | leads_at(16) | leads_at(32) | leads_at(48);
    const uint64_t places = leads & leads << 3;
    return size < kReach ? places & ((uint64_t{1} << size) - 1) : places;
  }
  // Whether there is one between the two characters of three bytes that meet at `p`: no token holds
  // both, or parts of both.
  bool IsAt(const char* p) const {
    return (int{pairs_[PairAt(p)]} | int{parts_[PartOf(p[-1], p[0], p[1])]}) == 0;
  }

 private:
  static bool IsWideLead(char c) { return (c & 0xF0) == 0xE0; }
  // The three bytes before and behind `p`, mixed.
  static size_t PairAt(const char* p) {
    uint32_t before;
    uint32_t behind;
    std::memcpy(&before, p - 3, sizeof(before));
    std::memcpy(&behind, p - 1, sizeof(behind));
    return (uint64_t{behind} << 16 | before) * 0x9E3779B97F4A7C15u >> (64 - kPairsLog2);
  }
  static size_t PartOf(unsigned char before, unsigned char first, unsigned char second) {
    return size_t{before & 0x3Fu} << 10 | size_t{first & 0x0Fu} << 6 | (second & 0x3Fu);
  }
  // What a token says by a character of three bytes, or its beginning, at this place.
  void AddPair(std::string_view token, size_t at);

  // The characters side by side in a token; of others few percent, for Qwen3's 18,400 pairs.
  static constexpr int kPairsLog2 = 19;
  std::bitset<size_t{1} << kPairsLog2> pairs_;
  // Where a token begins or ends inside one of the two: the last byte before, the first two behind.
  std::bitset<1 << 16> parts_;
};

}  // namespace mili::text

// Sixteen bytes of text at once, each class of ASCII as a mask: bit i is byte i. With SSE2 where
// there is (every x86-64), in plain integers elsewhere. Pure functions, any thread.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace mili::text {

inline constexpr int kBlockBytes = 16;

// The same on every machine, byte by byte in two words; what AsciiBlock is where there is no SSE2,
// and what its tests compare it with.
class PortableBlock {
 public:
  explicit PortableBlock(const char* p) {
    std::memcpy(words_, p, sizeof(words_));
    if constexpr (std::endian::native == std::endian::big) {
      for (uint64_t& word : words_) word = __builtin_bswap64(word);
    }
  }

  uint32_t NotAscii() const {
    return Mask([](uint64_t w) { return w & kHigh; });
  }
  uint32_t Letters() const {
    return Mask([](uint64_t w) { return Within(w | Each(0x20), 'a', 'z') & ~w; });
  }
  uint32_t Digits() const {
    return Mask([](uint64_t w) { return Within(w, '0', '9') & ~w; });
  }
  // Tab to carriage return, and the space.
  uint32_t Spaces() const {
    return Mask([](uint64_t w) { return (Within(w, '\t', '\r') | Within(w, ' ', ' ')) & ~w; });
  }
  uint32_t Newlines() const {
    return Mask([](uint64_t w) { return (Within(w, '\n', '\n') | Within(w, '\r', '\r')) & ~w; });
  }
  // Below the space.
  uint32_t Controls() const {
    return Mask([](uint64_t w) { return Within(w, 0, 0x1F) & ~w; });
  }
  // The bytes that are this one, which is ASCII.
  uint32_t Are(char c) const {
    return Mask([c](uint64_t w) { return Within(w, c, c) & ~w; });
  }

 private:
  static constexpr uint64_t kHigh = 0x8080808080808080u;
  static constexpr uint64_t Each(uint8_t byte) { return 0x0101010101010101u * byte; }
  // The high bit of each byte whose lower seven lie between the two.
  static uint64_t Within(uint64_t word, uint8_t first, uint8_t last) {
    const uint64_t low = word & ~kHigh;
    return (low + Each(0x80 - first)) & ~(low + Each(0x7F - last)) & kHigh;
  }
  template <typename Class>
  uint32_t Mask(Class in_class) const {
    // The high bits of eight bytes, gathered by a multiplication.
    const auto gather = [](uint64_t w) {
      return static_cast<uint32_t>(((w & kHigh) >> 7) * 0x0102040810204080u >> 56);
    };
    return gather(in_class(words_[0])) | gather(in_class(words_[1])) << 8;
  }

  uint64_t words_[2];
};

#if defined(__SSE2__)
class AsciiBlock {
 public:
  // Reads 16 bytes at p.
  explicit AsciiBlock(const char* p)
      : bytes_(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))) {}

  uint32_t NotAscii() const { return Mask(bytes_); }
  uint32_t Letters() const {
    return Mask(Within(_mm_or_si128(bytes_, _mm_set1_epi8(0x20)), 'a', 'z'));
  }
  uint32_t Digits() const { return Mask(Within(bytes_, '0', '9')); }
  uint32_t Spaces() const { return Mask(_mm_or_si128(Within(bytes_, '\t', '\r'), Is(' '))); }
  uint32_t Newlines() const { return Mask(_mm_or_si128(Is('\n'), Is('\r'))); }
  uint32_t Controls() const { return Mask(Within(bytes_, 0, 0x1F)); }
  uint32_t Are(char c) const { return Mask(Is(c)); }

 private:
  static uint32_t Mask(__m128i bytes) { return static_cast<uint32_t>(_mm_movemask_epi8(bytes)); }
  __m128i Is(char c) const { return _mm_cmpeq_epi8(bytes_, _mm_set1_epi8(c)); }
  // Bytes above 0x7F count as negative and so lie outside.
  static __m128i Within(__m128i bytes, char first, char last) {
    return _mm_and_si128(_mm_cmpgt_epi8(bytes, _mm_set1_epi8(static_cast<char>(first - 1))),
                         _mm_cmplt_epi8(bytes, _mm_set1_epi8(static_cast<char>(last + 1))));
  }

  __m128i bytes_;
};
#else
using AsciiBlock = PortableBlock;
#endif

// Of the 16 bytes at p, those that are at least `first` and at most `last`.
inline uint32_t BytesWithin(const char* p, uint8_t first, uint8_t last) {
#if defined(__SSE2__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i above_first = _mm_sub_epi8(bytes, _mm_set1_epi8(static_cast<char>(first)));
  const __m128i too_high =
      _mm_subs_epu8(above_first, _mm_set1_epi8(static_cast<char>(last - first)));
  return static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(too_high, _mm_setzero_si128())));
#else
  uint32_t mask = 0;
  for (int i = 0; i < kBlockBytes; ++i) {
    const auto byte = static_cast<unsigned char>(p[i]);
    if (byte >= first && byte <= last) mask |= 1u << i;
  }
  return mask;
#endif
}

// The first byte of [p, end) that is at least `limit`; end if there is none.
inline const char* FindByteFrom(const char* p, const char* end, uint8_t limit) {
  for (; end - p >= kBlockBytes; p += kBlockBytes) {
    const uint32_t found = BytesWithin(p, limit, 0xFF);
    if (found != 0) return p + std::countr_zero(found);
  }
  while (p != end && static_cast<unsigned char>(*p) < limit) ++p;
  return p;
}

}  // namespace mili::text

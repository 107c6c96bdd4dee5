#include "common/text/ascii_masks.h"

#include "common/text/ascii_block.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mili::text {

AsciiMasks AsciiMasksByBlocks(const char* p) {
  AsciiMasks masks;
  for (int i = 0; i < 64; i += kBlockBytes) {
    const AsciiBlock block(p + i);
    masks.not_ascii |= uint64_t{block.NotAscii()} << i;
    masks.letters |= uint64_t{block.Letters()} << i;
    masks.digits |= uint64_t{block.Digits()} << i;
    masks.spaces |= uint64_t{block.Spaces()} << i;
    masks.newlines |= uint64_t{block.Newlines()} << i;
    masks.blanks |= uint64_t{block.Are(' ')} << i;
    masks.quotes |= uint64_t{block.Are('\'')} << i;
  }
  return masks;
}

#if defined(__x86_64__)
namespace {

[[gnu::target("avx512bw")]] AsciiMasks AsciiMasksByAvx512(const char* p) {
  const __m512i bytes = _mm512_loadu_si512(p);
  // Lambdas take over no instruction set by themselves.
  const auto are = [&](char c) __attribute__((target("avx512bw"))) {
    return _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(c));
  };
  const auto within = [](__m512i v, char first, char last) __attribute__((target("avx512bw"))) {
    return _mm512_cmple_epu8_mask(_mm512_sub_epi8(v, _mm512_set1_epi8(first)),
                                  _mm512_set1_epi8(static_cast<char>(last - first)));
  };
  AsciiMasks masks;
  masks.not_ascii = _mm512_movepi8_mask(bytes);
  masks.letters = within(_mm512_or_si512(bytes, _mm512_set1_epi8(0x20)), 'a', 'z');
  masks.digits = within(bytes, '0', '9');
  masks.blanks = are(' ');
  masks.spaces = masks.blanks | within(bytes, '\t', '\r');
  masks.newlines = are('\n') | are('\r');
  masks.quotes = are('\'');
  return masks;
}

}  // namespace

AsciiMasks AsciiMasksOf(const char* p) {
  static const bool has_avx512 = __builtin_cpu_supports("avx512bw") != 0;
  return has_avx512 ? AsciiMasksByAvx512(p) : AsciiMasksByBlocks(p);
}
#else
AsciiMasks AsciiMasksOf(const char* p) { return AsciiMasksByBlocks(p); }
#endif

}  // namespace mili::text

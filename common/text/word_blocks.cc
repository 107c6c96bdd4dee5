#include "common/text/word_blocks.h"

#include <algorithm>
#include <bit>

#include "common/text/ascii_masks.h"
#include "common/text/contraction.h"

namespace mili::text {
namespace {

struct Masks : AsciiMasks {
  uint64_t others;    // neither letter nor digit nor white space
  uint32_t end = 64;  // where the first character that is not ASCII stands

  explicit Masks(const char* p)
      : AsciiMasks(AsciiMasksOf(p)), others(~(letters | digits | spaces | not_ascii)) {
    if (not_ascii != 0) end = std::countr_zero(not_ascii);
  }

  // Drops the starts that depend on what comes behind the block: those in white space at its end,
  // but for the first.
  uint64_t Known(uint64_t starts) const {
    if (end == 0) return 1;
    uint64_t known = end == 64 ? UINT64_MAX : (uint64_t{1} << end) - 1;
    if ((spaces >> (end - 1) & 1) != 0) {
      const uint64_t before = ~spaces & known;
      // The first of the white space: behind the last of the others.
      const uint32_t first = 64 - std::countl_zero(before);
      if (first < 63) known &= (uint64_t{2} << first) - 1;
    }
    return (starts & known) | 1;
  }
};

uint64_t Before(uint64_t mask) { return mask << 1; }  // what stands one place before is in the mask
uint64_t Behind(uint64_t mask) { return mask >> 1; }

// Puts the borders of contractions right: none before the letter behind the quote, one behind the
// last. Of quotes so near the end of the block that they may begin one, nothing is known.
uint64_t WithContractions(const char* p, Masks& masks, uint64_t starts, bool any_case) {
  uint64_t quotes = masks.quotes & starts & Behind(masks.letters);
  for (; quotes != 0; quotes &= quotes - 1) {
    const uint32_t at = std::countr_zero(quotes);
    if (at + 4 > masks.end) {
      masks.end = std::min(masks.end, at + 1);
      break;
    }
    const uint32_t size = ContractionSize({p + at, masks.end - at}, any_case);
    if (size == 0) continue;
    starts &= ~(uint64_t{2} << at);
    starts |= masks.letters & uint64_t{1} << (at + size);
  }
  return starts;
}

}  // namespace

uint64_t Gpt2WordStarts(const char* p) {
  Masks m(p);
  // A run begins where its class does, or with the one blank in front. Of white space, the last
  // character stands alone unless it is that blank.
  const uint64_t starts = (m.letters & ~Before(m.letters | m.blanks)) |
                          (m.digits & ~Before(m.digits | m.blanks)) |
                          (m.others & ~Before(m.others | m.blanks)) |
                          (m.spaces & ~(Before(m.spaces) & Behind(m.spaces)));
  return m.Known(WithContractions(p, m, starts | 1, /*any_case=*/false));
}

uint64_t Qwen2WordStarts(const char* p, int max_digits) {
  Masks m(p);
  uint64_t digits = m.digits;
  if (max_digits == 3) {
    // From the first of a run on, every third.
    const uint64_t three_before = digits & digits << 1 & digits << 2 & digits << 3;
    digits &= ~Before(digits);
    for (uint64_t next = digits; (next = next << 3 & three_before) != 0;) digits |= next;
  }
  // Signs begin a word unless one stands before, or a blank, which they take along.
  const uint64_t others = m.others & ~Before(m.others | m.blanks);
  // Letters take along what begins a word itself, and white space.
  const uint64_t letters = m.letters & Before(m.newlines | m.digits | (m.others & ~others));
  // Newlines behind signs are theirs.
  const uint64_t taken = m.newlines & ~(m.newlines + (m.newlines & Before(m.others)));
  const uint64_t spaces = m.spaces & ~taken;
  const uint64_t newlines = m.newlines & ~taken;
  // White space is one word through its last newline; of what is left, the last character begins a
  // word, and so does the first if there are more.
  const uint64_t rest = m.spaces & ~m.newlines;
  uint64_t first = rest & Before(newlines);
  // Not if a newline comes yet.
  for (uint64_t ends = (rest + first) & ~rest & m.newlines; ends != 0; ends &= ends - 1) {
    const uint64_t before = first & ((ends & -ends) - 1);
    first &= ~std::bit_floor(before);
  }
  const uint64_t starts = digits | (Before(m.digits) & ~m.digits) | others | letters |
                          (spaces & ~Before(spaces)) | first | (rest & ~Behind(m.spaces));
  return m.Known(WithContractions(p, m, starts | 1, /*any_case=*/true));
}

}  // namespace mili::text

#include "common/text/unicode.h"

#include <span>

#include "common/text/unicode_tables.h"

namespace mili::text {
namespace {

bool In(std::span<const CodeRange> ranges, uint32_t code_point) {
  return FindRange(ranges, code_point) != nullptr;
}

}  // namespace

bool IsSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsDigit(uint32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : In(kDigits, c); }

bool IsWord(uint32_t c) { return In(kWord, c); }

CharClasses::CharClasses() : table_(kTableSize, CharClass::kOther) {
  const auto fill = [this](std::span<const CodeRange> ranges, CharClass char_class) {
    for (const CodeRange& range : ranges) {
      for (uint32_t c = range.first; c <= range.last && c < kTableSize; ++c) {
        table_[c] = char_class;
      }
    }
  };
  fill(kLetters, CharClass::kLetter);
  fill(kNumbers, CharClass::kNumber);
  for (uint32_t c = 0; c <= 0x3000; ++c) {
    if (IsSpace(c)) table_[c] = CharClass::kSpace;
  }
}

CharClass CharClasses::Search(uint32_t c) {
  if (In(kLetters, c)) return CharClass::kLetter;
  return In(kNumbers, c) ? CharClass::kNumber : CharClass::kOther;
}

}  // namespace mili::text

// Unicode properties, of the versions of Unicode that Hugging Face tokenizers has, which are not
// the system's (tools/gen_unicode.py). Immutable, any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace mili::text {

// Disjoint; \s, \p{L} and \p{N} of the split patterns, and all else.
enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

bool IsSpace(uint32_t code_point);  // White_Space: 25 code points, U+0085 among them
bool IsDigit(uint32_t code_point);  // what the Digits pre-tokenizer splits off
bool IsWord(uint32_t code_point);   // \w: what a single_word token may not touch

// Looks classes up: a table for the first two planes, a search beyond them.
class CharClasses {
 public:
  CharClasses();

  CharClass Of(uint32_t code_point) const {
    return code_point < kTableSize ? table_[code_point] : Search(code_point);
  }

 private:
  static constexpr uint32_t kTableSize = 0x20000;
  static CharClass Search(uint32_t code_point);
  std::vector<CharClass> table_;  // [kTableSize]
};

}  // namespace mili::text

// The contractions that split patterns cut off: 's|'t|'re|'ve|'m|'ll|'d. A pure function, any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mili::text {

// The size in bytes of the contraction at the front of `text`, which is an apostrophe and more or
// nothing; 0 if there is none.
inline uint32_t ContractionSize(std::string_view text, bool any_case) {
  const auto letter = [&](size_t at) -> char {
    if (at >= text.size()) return 0;
    return any_case ? static_cast<char>(text[at] | 0x20) : text[at];
  };
  switch (letter(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return letter(2) == 'e' ? 3 : 0;
    case 'l':
      return letter(2) == 'l' ? 3 : 0;
    default:
      // U+017F, the long s, is an s in any case.
      return any_case && text.substr(1).starts_with("\u017F") ? 3 : 0;
  }
}

}  // namespace mili::text

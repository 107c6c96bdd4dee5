// The tables that tools/gen_unicode.py makes, sorted by their first member. For unicode.cc and
// nfc.cc alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace mili::text {

struct CodeRange {
  uint32_t first;
  uint32_t last;
};

struct ClassRange {
  uint32_t first;
  uint32_t last;
  uint8_t combining_class;
};

struct Decomposition {
  uint32_t composed;
  uint32_t first;
  uint32_t second;
};

struct FullDecomposition {
  uint32_t code_point;
  uint32_t first;
  uint32_t second;  // 0: none
  uint32_t third;   // 0: none
};

// The range that holds the code point; nullptr if none does.
template <typename Range>
const Range* FindRange(std::span<const Range> ranges, uint32_t code_point) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), code_point,
                       [](uint32_t value, const Range& range) { return value < range.first; });
  if (after == ranges.begin()) return nullptr;
  const Range& range = *(after - 1);
  return code_point <= range.last ? &range : nullptr;
}

#include "common/text/unicode_tables.inc"

}  // namespace mili::text

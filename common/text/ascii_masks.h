// Sixty-four bytes of text at once, each class of ASCII as a mask: bit i is byte i. With AVX-512
// where the CPU has it, else by blocks of sixteen. Pure functions, any thread.
#pragma once

#include <cstdint>

namespace mili::text {

struct AsciiMasks {
  uint64_t not_ascii = 0;
  uint64_t letters = 0;
  uint64_t digits = 0;
  uint64_t spaces = 0;    // white space of any kind
  uint64_t newlines = 0;  // of them: '\r', '\n'
  uint64_t blanks = 0;    // of them: ' '
  uint64_t quotes = 0;    // '\''

  friend bool operator==(const AsciiMasks&, const AsciiMasks&) = default;
};

AsciiMasks AsciiMasksOf(const char* p);
// The same, on any CPU.
AsciiMasks AsciiMasksByBlocks(const char* p);

}  // namespace mili::text

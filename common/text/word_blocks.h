// Finds the words of a split pattern in ASCII text, 64 bytes at once: each class of characters is a
// mask, and where words begin is computed from the masks of what stands around, for all places
// together. Pure functions, any thread.
#pragma once

#include <cstdint>

namespace mili::text {

inline constexpr uint32_t kWordBlockBytes = 64;

// For the 64 bytes at `p`, where a word begins: the places at which words begin (bit i is p + i),
// as far as these bytes tell; bit 0 is set. What lies between two of them is a word, what lies
// behind the last one is not known to be one.
uint64_t Gpt2WordStarts(const char* p);
uint64_t Qwen2WordStarts(const char* p, int max_digits);

}  // namespace mili::text

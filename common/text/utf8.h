// UTF-8 as the tokenizer reads and writes it: code points of valid text, and what becomes of bytes
// that are none. Pure functions, any thread; no state, no allocation but for repaired text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mili::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Utf8Kind {
  kValid,      // one code point
  kInvalid,    // a maximal subpart that no byte can mend
  kTruncated,  // the text ends inside what may still become a code point
};

struct Utf8Unit {
  Utf8Kind kind;
  uint32_t size_bytes;  // 1 to 4; of an invalid or truncated unit 1 to 3
};

// The unit at the front of `text`, which is not empty. Units are as in section 3.9 of the Unicode
// standard (best practice for U+FFFD), as Python's and Rust's lossy decoders cut them.
Utf8Unit FirstUnit(std::string_view text);

bool IsValidUtf8(std::string_view text);
// The same, on any CPU.
bool IsValidUtf8ByBytes(std::string_view text);

// Appends `text` to `out`, each invalid or truncated unit as U+FFFD.
void AppendLossy(std::string_view text, std::string& out);

// The size of the truncated unit at the end of `text`; 0 if there is none.
size_t TruncatedTail(std::string_view text);

struct CodePoint {
  uint32_t value;
  uint32_t size_bytes;
};

// The code point at `p` of valid UTF-8.
inline CodePoint DecodeAt(const char* p) {
  const auto byte = [p](int i) { return static_cast<uint32_t>(static_cast<unsigned char>(p[i])); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) {
    return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  }
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

// The code point that ends before text[end] of valid UTF-8; end > 0.
CodePoint DecodeBefore(std::string_view text, size_t end);

void AppendCodePoint(uint32_t code_point, std::string& out);

}  // namespace mili::text

#include "common/formats/json_text.h"

#include <cstddef>
#include <cstdint>

namespace mili {
namespace {

// Bytes of the well-formed sequence that begins at `at`; 0 if there is none.
size_t SequenceBytes(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> uint8_t {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : 0;
  };
  const uint8_t first = byte(at);
  if (first < 0x80) return 1;
  // The second byte has a range of its own after some leads; the others run from 80 to BF.
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  size_t size = 0;
  if (first >= 0xC2 && first <= 0xDF) {
    size = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    size = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    size = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  }
  if (size == 0 || byte(at + 1) < low || byte(at + 1) > high) return 0;
  for (size_t i = 2; i < size; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  return size;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t size = SequenceBytes(text, at);
    if (size == 0) return false;
    at += size;
  }
  return true;
}

void AppendJsonString(std::string_view text, std::string& json) {
  constexpr char kHex[] = "0123456789abcdef";
  json += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      json += "\\u00";
      json += kHex[c >> 4];
      json += kHex[c & 15];
    } else {
      json += c;
    }
  }
  json += '"';
}

}  // namespace mili

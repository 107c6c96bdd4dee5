#include "common/text/byte_level.h"

#include <algorithm>
#include <array>

#include "common/text/utf8.h"

namespace mili::text {
namespace {

constexpr uint32_t kFirstSubstitute = 0x100;
constexpr uint32_t kEnd = kFirstSubstitute + 68;

constexpr bool StandsForItself(uint32_t c) {
  return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

constexpr std::array<uint16_t, 256> kCharOfByte = [] {
  std::array<uint16_t, 256> chars{};
  uint16_t next = kFirstSubstitute;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    chars[byte] = StandsForItself(byte) ? static_cast<uint16_t>(byte) : next++;
  }
  return chars;
}();

constexpr std::array<int16_t, kEnd> kByteOfChar = [] {
  std::array<int16_t, kEnd> bytes{};
  for (int16_t& byte : bytes) byte = -1;
  for (int16_t byte = 0; byte < 256; ++byte) bytes[kCharOfByte[byte]] = byte;
  return bytes;
}();

}  // namespace

uint32_t ByteLevelChar(uint8_t byte) { return kCharOfByte[byte]; }

bool AppendByteLevelDecoded(std::string_view spelling, std::string& out) {
  const size_t begin = out.size();
  out.resize(begin + spelling.size());
  char* end = out.data() + begin;
  const bool byte_level = PutByteLevelDecoded(spelling, end);
  out.resize(end - out.data());
  return byte_level;
}

bool PutByteLevelDecoded(std::string_view spelling, char*& out) {
  char* to = out;
  for (size_t i = 0; i < spelling.size();) {
    const CodePoint c = DecodeAt(spelling.data() + i);
    if (c.value >= kEnd || kByteOfChar[c.value] < 0) {
      out = std::copy(spelling.begin(), spelling.end(), out);
      return false;
    }
    *to++ = static_cast<char>(kByteOfChar[c.value]);
    i += c.size_bytes;
  }
  out = to;
  return true;
}

}  // namespace mili::text

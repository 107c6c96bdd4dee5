#include "common/text/utf8.h"

#include <algorithm>

#include "common/text/ascii_block.h"
#include "common/text/utf8_vectors.h"

namespace mili::text {
namespace {

struct Lead {
  uint32_t size_bytes;  // of the whole code point; 0: no lead byte
  unsigned char second_min;
  unsigned char second_max;
};

// Table 3-7 of the Unicode standard: well-formed byte sequences.
Lead LeadOf(unsigned char byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Unit FirstUnit(std::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return {Utf8Kind::kValid, 1};
  const Lead lead = LeadOf(byte(0));
  if (lead.size_bytes == 0) return {Utf8Kind::kInvalid, 1};
  for (uint32_t i = 1; i < lead.size_bytes; ++i) {
    if (i == text.size()) return {Utf8Kind::kTruncated, i};
    const unsigned char min = i == 1 ? lead.second_min : 0x80;
    const unsigned char max = i == 1 ? lead.second_max : 0xBF;
    if (byte(i) < min || byte(i) > max) return {Utf8Kind::kInvalid, i};
  }
  return {Utf8Kind::kValid, lead.size_bytes};
}

bool IsValidUtf8(std::string_view text) {
  return HasUtf8Vectors() ? IsValidUtf8ByVectors(text) : IsValidUtf8ByBytes(text);
}

bool IsValidUtf8ByBytes(std::string_view text) {
  const char* p = text.data();
  const char* const end = p + text.size();
  const auto byte = [&p](int i) { return static_cast<unsigned char>(p[i]); };
  const auto continues = [&](int i) { return (byte(i) & 0xC0) == 0x80; };
  while ((p = FindByteFrom(p, end, 0x80)) != end) {
    do {
      // The most common units by hand, all others with care.
      if (end - p >= 3 && byte(0) >= 0xE1 && byte(0) <= 0xEC && continues(1) && continues(2)) {
        p += 3;
      } else if (end - p >= 2 && byte(0) >= 0xC2 && byte(0) <= 0xDF && continues(1)) {
        p += 2;
      } else {
        const Utf8Unit unit = FirstUnit(std::string_view(p, end - p));
        if (unit.kind != Utf8Kind::kValid) return false;
        p += unit.size_bytes;
      }
    } while (p != end && byte(0) >= 0x80);
  }
  return true;
}

void AppendLossy(std::string_view text, std::string& out) {
  out.reserve(out.size() + text.size());
  size_t valid = 0;  // bytes at the front of `text` known to be valid
  while (valid < text.size()) {
    const Utf8Unit unit = FirstUnit(text.substr(valid));
    if (unit.kind == Utf8Kind::kValid) {
      valid += unit.size_bytes;
      continue;
    }
    out.append(text.substr(0, valid)).append(kReplacement);
    text.remove_prefix(valid + unit.size_bytes);
    valid = 0;
  }
  out.append(text);
}

size_t TruncatedTail(std::string_view text) {
  // Only the last lead byte within reach can begin it.
  const size_t reach = std::min<size_t>(text.size(), 3);
  for (size_t size = 1; size <= reach; ++size) {
    const std::string_view tail = text.substr(text.size() - size);
    if (static_cast<unsigned char>(tail[0]) < 0xC0) continue;
    const Utf8Unit unit = FirstUnit(tail);
    return unit.kind == Utf8Kind::kTruncated ? size : 0;
  }
  return 0;
}

CodePoint DecodeBefore(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return DecodeAt(text.data() + begin);
}

void AppendCodePoint(uint32_t c, std::string& out) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

}  // namespace mili::text

#include "common/text/json_cursor.h"

#include <bit>
#include <charconv>
#include <system_error>

#include "common/text/ascii_block.h"
#include "common/text/utf8.h"

namespace mili::text {
namespace {

bool IsJsonSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

const char* SkipDigits(const char* p, const char* end) {
  while (p != end && *p >= '0' && *p <= '9') ++p;
  return p;
}

}  // namespace

void JsonCursor::SkipMoreSpace() {
  while (p_ != end_ && IsJsonSpace(*p_)) ++p_;
}

bool JsonCursor::Take(std::string_view word) {
  Peek();
  if (!std::string_view(p_, end_ - p_).starts_with(word)) return false;
  p_ += word.size();
  return true;
}

const char* JsonCursor::FindStringStop(const char* p, bool& plain) const {
  for (; end_ - p >= kBlockBytes; p += kBlockBytes) {
    const AsciiBlock block(p);
    const uint32_t stops = block.Are('"') | block.Are('\\') | block.Controls();
    const uint32_t before = stops == 0 ? UINT32_MAX : (stops & -stops) - 1;
    if ((block.NotAscii() & before) != 0) plain = false;
    if (stops != 0) return p + std::countr_zero(stops);
  }
  for (; p != end_; ++p) {
    const auto byte = static_cast<unsigned char>(*p);
    if (byte == '"' || byte == '\\' || byte < 0x20) break;
    if (byte >= 0x80) plain = false;
  }
  return p;
}

std::optional<std::string_view> JsonCursor::RestOfString() {
  bool plain = true;
  const char* const stop = FindStringStop(p_, plain);
  if (stop != end_ && *stop == '\\') return EscapedString(stop);
  const std::string_view string(p_, stop - p_);
  if (!plain && !is_utf8_ && !IsValidUtf8(string)) return std::nullopt;
  p_ = stop;
  if (stop == end_ || *stop != '"') return std::nullopt;
  ++p_;
  return string;
}

// From p_ on, of which the first escape is at p.
std::optional<std::string_view> JsonCursor::EscapedString(const char* p) {
  unescaped_.clear();
  for (;;) {
    const std::string_view part(p_, p - p_);
    if (!is_utf8_ && !IsValidUtf8(part)) return std::nullopt;
    unescaped_.append(part);
    p_ = p;
    if (p_ == end_) return std::nullopt;
    if (*p_ == '"') break;
    if (*p_ != '\\' || !Unescape()) return std::nullopt;
    bool plain = true;
    p = FindStringStop(p_, plain);
  }
  ++p_;
  return unescaped_;
}

bool JsonCursor::Unescape() {
  if (end_ - p_ < 2) return false;
  const char c = p_[1];
  if (c != 'u') {
    constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const size_t index = kNames.find(c);
    if (index == kNames.npos) return false;
    unescaped_.push_back(kMeanings[index]);
    p_ += 2;
    return true;
  }
  p_ += 2;
  std::optional<uint32_t> unit = Hex();
  if (!unit) return false;
  // Beyond the basic plane it takes two, and neither stands alone.
  if (*unit >= 0xD800 && *unit < 0xDC00) {
    if (end_ - p_ < 2 || p_[0] != '\\' || p_[1] != 'u') return false;
    p_ += 2;
    const std::optional<uint32_t> low = Hex();
    if (!low || *low < 0xDC00 || *low >= 0xE000) return false;
    unit = 0x10000 + ((*unit - 0xD800) << 10) + (*low - 0xDC00);
  } else if (*unit >= 0xDC00 && *unit < 0xE000) {
    return false;
  }
  AppendCodePoint(*unit, unescaped_);
  return true;
}

std::optional<uint32_t> JsonCursor::Hex() {
  if (end_ - p_ < 4) return std::nullopt;
  uint32_t value = 0;
  const auto [stop, error] = std::from_chars(p_, p_ + 4, value, 16);
  if (error != std::errc() || stop != p_ + 4) return std::nullopt;
  p_ += 4;
  return value;
}

std::optional<std::string_view> JsonCursor::Number() {
  Peek();
  const char* p = p_;
  if (p != end_ && *p == '-') ++p;
  const char* digits = p;
  p = SkipDigits(p, end_);
  if (p == digits || (*digits == '0' && p - digits > 1)) return std::nullopt;
  if (p != end_ && *p == '.') {
    digits = ++p;
    p = SkipDigits(p, end_);
    if (p == digits) return std::nullopt;
  }
  if (p != end_ && (*p == 'e' || *p == 'E')) {
    ++p;
    if (p != end_ && (*p == '+' || *p == '-')) ++p;
    digits = p;
    p = SkipDigits(p, end_);
    if (p == digits) return std::nullopt;
  }
  const std::string_view number(p_, p - p_);
  p_ = p;
  return number;
}

std::optional<uint64_t> JsonCursor::AnyUnsigned() {
  const char* const before = p_;
  const std::optional<std::string_view> number = Number();
  if (!number) return std::nullopt;
  uint64_t value = 0;
  const char* const end = number->data() + number->size();
  const auto [stop, error] = std::from_chars(number->data(), end, value);
  if (error == std::errc() && stop == end) return value;
  p_ = before;
  return std::nullopt;
}

}  // namespace mili::text

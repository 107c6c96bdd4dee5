// Reads JSON text piece by piece (RFC 8259), strictly, and builds nothing: who reads a large file
// takes from it what it wants. Strings without escapes are views of the text. For one thread;
// borrows the text; never reads beyond it, whatever it says.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/text/ascii_block.h"
#include "common/text/utf8.h"

namespace mili::text {

class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text)
      : begin_(text.data()), p_(begin_), end_(begin_ + text.size()), is_utf8_(IsValidUtf8(text)) {}

  // The byte that comes next, behind white space; 0 if none does.
  char Peek() {
    if (p_ != end_ && static_cast<unsigned char>(*p_) <= ' ') SkipSpace();
    return p_ != end_ ? *p_ : '\0';
  }
  // Goes on behind this byte if it comes next.
  bool Take(char c) {
    if (Peek() != c || p_ == end_) return false;
    ++p_;
    return true;
  }
  bool Take(std::string_view word);
  bool AtEnd() { return Peek() == '\0' && p_ == end_; }

  // Each of these reads what comes next, and is none if that is something else, or no JSON; then
  // the cursor stays where it was, but for a string, where it stands at the fault.

  // Valid UTF-8; until the next String, unless it Lasts.
  std::optional<std::string_view> String() {
    if (!Take('"')) return std::nullopt;
    if (end_ - p_ >= kBlockBytes) {  // most are short and plain
      const AsciiBlock block(p_);
      const uint32_t quotes = block.Are('"');
      const uint32_t before = (quotes - 1) & ~quotes;
      uint32_t others = block.Are('\\') | block.Controls();
      if (!is_utf8_) others |= block.NotAscii();
      if (quotes != 0 && (others & before) == 0) {
        const std::string_view string(p_, std::countr_zero(quotes));
        p_ += string.size() + 1;
        return string;
      }
    }
    return RestOfString();
  }
  // Whether a string that was read is one of the text, and stays.
  bool Lasts(std::string_view string) const {
    return std::less_equal<>()(begin_, string.data()) && std::less_equal<>()(string.data(), end_);
  }
  // A number as it is written.
  std::optional<std::string_view> Number();
  // A number of digits alone that fits.
  std::optional<uint64_t> Unsigned() {
    // Most are short. A zero in front, or what may go on as something else, is looked at again.
    Peek();
    uint64_t value = 0;
    const char* p = p_;
    for (; end_ - p > 1 && p - p_ < kShortDigits && *p >= '0' && *p <= '9'; ++p) {
      value = 10 * value + static_cast<uint64_t>(*p - '0');
    }
    if (p == p_ || (*p_ == '0' && p - p_ > 1) || IsOfNumber(*p)) return AnyUnsigned();
    p_ = p;
    return value;
  }

  size_t size_bytes() const { return end_ - begin_; }
  // Bytes before the cursor.
  size_t position() const { return p_ - begin_; }

 private:
  void SkipSpace() {
    if (end_ - p_ < kBlockBytes) return SkipMoreSpace();
    const AsciiBlock block(p_);
    const int spaces = std::countr_one(block.Are(' ') | block.Newlines() | block.Are('\t'));
    p_ += spaces;
    if (spaces == kBlockBytes) SkipMoreSpace();
  }
  void SkipMoreSpace();
  // The first byte from p on that ends a string or wants to be looked at; `plain` turns false if
  // one before it is not ASCII.
  const char* FindStringStop(const char* p, bool& plain) const;
  static constexpr int kShortDigits = 9;
  static bool IsOfNumber(char c) {
    return (c >= '0' && c <= '9') || c == '.' || c == 'e' || c == 'E';
  }
  std::optional<uint64_t> AnyUnsigned();
  // Behind the first quote.
  std::optional<std::string_view> RestOfString();
  std::optional<std::string_view> EscapedString(const char* p);
  // Appends what the escape at p_ stands for.
  bool Unescape();
  // Four hexadecimal digits at p_.
  std::optional<uint32_t> Hex();

  const char* begin_;
  const char* p_;
  const char* end_;
  bool is_utf8_;  // all of the text
  std::string unescaped_;
};

}  // namespace mili::text

// Reads JSON text piece by piece (RFC 8259), strictly, and builds nothing: who reads a large file
// takes from it what it wants. Strings without escapes are views of the text. For one thread;
// borrows the text; never reads beyond it, whatever it says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mili::text {

class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text)
      : begin_(text.data()), p_(begin_), end_(begin_ + text.size()) {}

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

  // Valid UTF-8; until the next String.
  std::optional<std::string_view> String();
  // A number as it is written.
  std::optional<std::string_view> Number();
  // A number of digits alone that fits.
  std::optional<uint64_t> Unsigned();

  // Bytes before the cursor.
  size_t position() const { return p_ - begin_; }

 private:
  void SkipSpace();
  // The first byte from p on that ends a string or wants to be looked at; `plain` turns false if
  // one before it is not ASCII.
  const char* FindStringStop(const char* p, bool& plain) const;
  std::optional<std::string_view> EscapedString(const char* p);
  // Appends what the escape at p_ stands for.
  bool Unescape();
  // Four hexadecimal digits at p_.
  std::optional<uint32_t> Hex();

  const char* begin_;
  const char* p_;
  const char* end_;
  std::string unescaped_;
};

}  // namespace mili::text

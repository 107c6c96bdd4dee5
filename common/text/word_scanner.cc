#include "common/text/word_scanner.h"

#include <cstdint>
#include <cstring>
#include <limits>

#include "common/text/contraction.h"
#include "common/text/utf8.h"
#include "common/text/word_blocks.h"

namespace mili::text {
namespace {

struct Char {
  uint32_t value;
  uint32_t size_bytes;
  CharClass char_class;
};

bool IsNewline(uint32_t c) { return c == '\r' || c == '\n'; }

class Cursor {
 public:
  Cursor(std::string_view text, const CharClasses& classes) : text_(text), classes_(classes) {}

  bool AtEnd(size_t at) const { return at >= text_.size(); }
  Char At(size_t at) const {
    const CodePoint c = DecodeAt(text_.data() + at);
    return {c.value, c.size_bytes, classes_.Of(c.value)};
  }
  bool Is(size_t at, CharClass char_class) const {
    return !AtEnd(at) && At(at).char_class == char_class;
  }

  // The end of the run of at most `max` characters of the class from `at` on.
  size_t Run(size_t at, CharClass char_class, int max = std::numeric_limits<int>::max()) const {
    for (; max > 0 && !AtEnd(at); --max) {
      const Char c = At(at);
      if (c.char_class != char_class) break;
      at += c.size_bytes;
    }
    return at;
  }

  // \s+(?!\S)|\s+ : the white space at the front, less its last character if a word follows.
  size_t Spaces() const {
    size_t last = 0;
    size_t at = 0;
    while (!AtEnd(at)) {
      const Char c = At(at);
      if (c.char_class != CharClass::kSpace) break;
      last = at;
      at += c.size_bytes;
    }
    return AtEnd(at) || last == 0 ? at : last;
  }

  // \s*[\r\n]+ : up to the last line end in the white space at the front; 0 if there is none.
  size_t ThroughLastNewline() const {
    size_t end = 0;
    for (size_t at = 0; !AtEnd(at);) {
      const Char c = At(at);
      if (c.char_class != CharClass::kSpace) break;
      at += c.size_bytes;
      if (IsNewline(c.value)) end = at;
    }
    return end;
  }

  unsigned char Byte(size_t at) const {
    return at < text_.size() ? static_cast<unsigned char>(text_[at]) : 0;
  }

 private:
  std::string_view text_;
  const CharClasses& classes_;
};

// Size in bytes of the word at the front: valid UTF-8, not empty. Never 0.
size_t Gpt2Word(std::string_view word, const CharClasses& classes) {
  const Cursor text(word, classes);
  if (text.Byte(0) == '\'') {
    if (const size_t size = ContractionSize(word, /*any_case=*/false)) return size;
  }
  // " ?" and a run of one class.
  const size_t begin = text.Byte(0) == ' ' ? 1 : 0;
  if (!text.AtEnd(begin)) {
    const CharClass char_class = text.At(begin).char_class;
    if (char_class != CharClass::kSpace) return text.Run(begin, char_class);
  }
  return text.Spaces();
}

size_t Qwen2Word(std::string_view word, const CharClasses& classes, int max_digits) {
  const Cursor text(word, classes);
  if (text.Byte(0) == '\'') {
    if (const size_t size = ContractionSize(word, /*any_case=*/true)) return size;
  }
  const Char first = text.At(0);
  // [^\r\n\p{L}\p{N}]?\p{L}+
  if (first.char_class == CharClass::kLetter) return text.Run(0, CharClass::kLetter);
  if (first.char_class == CharClass::kNumber) return text.Run(0, CharClass::kNumber, max_digits);
  if (!IsNewline(first.value) && text.Is(first.size_bytes, CharClass::kLetter)) {
    return text.Run(first.size_bytes, CharClass::kLetter);
  }
  //  ?[^\s\p{L}\p{N}]+[\r\n]*
  const size_t begin = first.value == ' ' ? 1 : 0;
  if (text.Is(begin, CharClass::kOther)) {
    size_t end = text.Run(begin, CharClass::kOther);
    while (IsNewline(text.Byte(end))) ++end;
    return end;
  }
  if (const size_t end = text.ThroughLastNewline()) return end;
  return text.Spaces();
}

// The next eight bytes; with less, a block tells too little to be worth its while.
bool IsAscii(const char* p) {
  uint64_t bytes;
  std::memcpy(&bytes, p, sizeof(bytes));
  return (bytes & 0x8080808080808080u) == 0;
}

// `starts_at` finds the words of 64 bytes of ASCII, `size_at` the size of any one.
template <typename StartsAt, typename SizeAt>
void Cut(std::string_view text, WordBatch& words, StartsAt starts_at, SizeAt size_at) {
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p != end) {
    if (end - p >= kWordBlockBytes && IsAscii(p)) {
      const uint64_t starts = starts_at(p) & ~uint64_t{1};
      if (starts != 0) {
        p = words.AddAll(p, starts);
        continue;
      }
    }
    const size_t size = size_at(std::string_view(p, end - p));
    words.Add(p, size);
    p += size;
  }
}

}  // namespace

void CutGpt2Words(std::string_view text, const CharClasses& classes, WordBatch& words) {
  Cut(text, words, Gpt2WordStarts, [&](std::string_view rest) { return Gpt2Word(rest, classes); });
}

void CutQwen2Words(std::string_view text, const CharClasses& classes, int max_digits,
                   WordBatch& words) {
  Cut(
      text, words, [max_digits](const char* p) { return Qwen2WordStarts(p, max_digits); },
      [&](std::string_view rest) { return Qwen2Word(rest, classes, max_digits); });
}

}  // namespace mili::text

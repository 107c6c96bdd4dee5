#include "tests/common/text/plain_words.h"

#include "common/text/unicode.h"
#include "common/text/utf8.h"

namespace mili::text {
namespace {

class Matcher {
 public:
  explicit Matcher(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
      const CodePoint c = DecodeAt(text.data() + i);
      chars_.push_back(c.value);
      i += c.size_bytes;
    }
  }

  size_t size() const { return chars_.size(); }
  uint32_t at(size_t i) const { return chars_[i]; }
  bool Letter(size_t i) const { return Is(i, CharClass::kLetter); }
  bool Number(size_t i) const { return Is(i, CharClass::kNumber); }
  bool Space(size_t i) const { return Is(i, CharClass::kSpace); }
  bool Other(size_t i) const { return Is(i, CharClass::kOther); }
  bool Newline(size_t i) const { return i < size() && (chars_[i] == '\r' || chars_[i] == '\n'); }
  bool Blank(size_t i) const { return i < size() && chars_[i] == ' '; }

  // 's|'t|'re|'ve|'m|'ll|'d : where it ends, or i.
  size_t Contraction(size_t i, bool any_case) const {
    if (i >= size() || chars_[i] != '\'') return i;
    for (const std::string_view end : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      size_t j = 0;
      while (j < end.size() && i + 1 + j < size() && Same(chars_[i + 1 + j], end[j], any_case)) ++j;
      if (j == end.size()) return i + 1 + j;
    }
    return i;
  }
  template <typename Class>
  size_t Run(size_t i, Class in_class, size_t max = SIZE_MAX) const {
    for (; max > 0 && (this->*in_class)(i); --max) ++i;
    return i;
  }
  // \s+(?!\S)|\s+
  size_t Spaces(size_t i) const {
    const size_t end = Run(i, &Matcher::Space);
    return end == size() || end == i + 1 ? end : end - 1;
  }

 private:
  bool Is(size_t i, CharClass c) const {
    static const CharClasses kClasses;
    return i < size() && kClasses.Of(chars_[i]) == c;
  }
  static bool Same(uint32_t c, char letter, bool any_case) {
    const auto small = static_cast<uint32_t>(letter);
    return c == small || (any_case && (c == small - 32 || (letter == 's' && c == 0x17F)));
  }

  std::vector<uint32_t> chars_;
};

size_t Gpt2End(const Matcher& m, size_t i) {
  if (const size_t end = m.Contraction(i, false); end != i) return end;
  const size_t begin = m.Blank(i) ? i + 1 : i;
  for (const auto in_class : {&Matcher::Letter, &Matcher::Number, &Matcher::Other}) {
    if (const size_t end = m.Run(begin, in_class); end != begin) return end;
  }
  return m.Spaces(i);
}

size_t Qwen2End(const Matcher& m, size_t i, size_t max_digits) {
  if (const size_t end = m.Contraction(i, true); end != i) return end;
  if (!m.Newline(i) && !m.Letter(i) && !m.Number(i) && m.Letter(i + 1)) {
    return m.Run(i + 1, &Matcher::Letter);
  }
  if (m.Letter(i)) return m.Run(i, &Matcher::Letter);
  if (m.Number(i)) return m.Run(i, &Matcher::Number, max_digits);
  const size_t begin = m.Blank(i) ? i + 1 : i;
  if (const size_t end = m.Run(begin, &Matcher::Other); end != begin) {
    return m.Run(end, &Matcher::Newline);
  }
  for (size_t end = m.Run(i, &Matcher::Space); end > i; --end) {
    if (m.Newline(end - 1)) return end;
  }
  return m.Spaces(i);
}

}  // namespace

std::vector<std::string> PlainWords(SplitStep pattern, std::string_view text) {
  const Matcher matcher(text);
  std::vector<std::string> words;
  for (size_t i = 0; i < matcher.size();) {
    const size_t end = pattern == SplitStep::kGpt2
                           ? Gpt2End(matcher, i)
                           : Qwen2End(matcher, i, pattern == SplitStep::kLlama3 ? 3 : 1);
    words.emplace_back();
    for (; i < end; ++i) AppendCodePoint(matcher.at(i), words.back());
  }
  return words;
}

}  // namespace mili::text

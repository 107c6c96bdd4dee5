#include "router/text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/text/utf8.h"

namespace mili::router::jinja {
namespace {

constexpr std::array<std::string_view, 12> kLongOperators = {
    "**", "//", "==", "!=", "<=", ">=", "{%", "{{", "{#", "%}", "}}", "#}"};

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c); }

// All line ends become \n; one at the very end goes.
std::string NormalizeLines(std::string_view source) {
  std::string normal;
  normal.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      normal.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      normal.push_back(source[i]);
    }
  }
  if (!normal.empty() && normal.back() == '\n') normal.pop_back();
  return normal;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (position_ < source_.size()) MILI_RETURN_IF_ERROR(TextAndTag());
    Add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  absl::Status Error(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("chat template line ", line_, ": ", ToAbsl(what)));
  }

  char At(size_t i) const { return i < source_.size() ? source_[i] : '\0'; }
  bool Starts(size_t at, std::string_view with) const {
    return source_.compare(at, with.size(), with) == 0;
  }
  void Add(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  // Moves on, counting lines.
  void MoveTo(size_t position) {
    line_ +=
        static_cast<int>(std::count(source_.begin() + position_, source_.begin() + position, '\n'));
    position_ = position;
  }
  void SkipSpaces() {
    size_t at = position_;
    while (at < source_.size() && IsSpace(source_[at])) ++at;
    MoveTo(at);
  }

  absl::Status TextAndTag() {
    size_t tag = position_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos) break;
      const char next = At(tag + 1);
      if (next == '%' || next == '{' || next == '#') break;
      ++tag;
    }
    if (tag == std::string::npos) {
      AddText(position_, source_.size());
      MoveTo(source_.size());
      return absl::OkStatus();
    }
    const char type = source_[tag + 1];
    const char sign = At(tag + 2);
    AddText(position_, TextEnd(tag, type, sign));
    MoveTo(tag + 2);
    if (type == '#') return Comment();
    if (sign == '-' || sign == '+') MoveTo(position_ + 1);
    if (type == '%') {
      size_t at = position_;
      while (IsSpace(At(at))) ++at;
      if (Starts(at, "raw") && !IsNamePart(At(at + 3))) {
        size_t end = at + 3;
        while (IsSpace(At(end))) ++end;
        if (Starts(end, "%}") || Starts(end, "-%}")) return Raw(end);
      }
    }
    return Tag(type == '{');
  }

  void AddText(size_t begin, size_t end) {
    if (end > begin) Add(TokenKind::kText, source_.substr(begin, end - begin));
  }

  // Where the text before a tag ends: `-` takes all whitespace; lstrip_blocks takes what stands
  // before a statement or comment on its line.
  size_t TextEnd(size_t tag, char type, char sign) const {
    size_t end = tag;
    if (sign == '-') {
      while (end > position_ && IsSpace(source_[end - 1])) --end;
      return end;
    }
    if (sign == '+' || type == '{') return tag;
    while (end > position_ && IsSpace(source_[end - 1]) && source_[end - 1] != '\n') --end;
    const bool at_line_start = end > 0 ? source_[end - 1] == '\n' : true;
    return at_line_start ? end : tag;
  }

  // After the closing mark of a statement or comment: `-` takes all whitespace, else trim_blocks
  // takes one newline; `+` keeps it.
  void CloseBlock(char sign, size_t mark_end) {
    MoveTo(mark_end);
    if (sign == '-') {
      SkipSpaces();
    } else if (sign != '+' && At(position_) == '\n') {
      MoveTo(position_ + 1);
    }
  }

  absl::Status Comment() {
    const size_t end = source_.find("#}", position_);
    if (end == std::string::npos) return Error("a comment {# has no end #}");
    const char sign = end > position_ ? source_[end - 1] : '\0';
    CloseBlock(sign, end + 2);
    return absl::OkStatus();
  }

  // `mark` is where %} or -%} of the raw tag stands.
  absl::Status Raw(size_t mark) {
    const bool strip = At(mark) == '-';
    MoveTo(mark + (strip ? 3 : 2));
    if (strip) SkipSpaces();
    size_t at = position_;
    while ((at = source_.find("{%", at)) != std::string::npos) {
      const char sign = At(at + 2);
      size_t word = at + 2 + (sign == '-' || sign == '+' ? 1 : 0);
      while (IsSpace(At(word))) ++word;
      size_t end = word + 6;
      if (Starts(word, "endraw")) {
        while (IsSpace(At(end))) ++end;
        const char close = At(end);
        if (close == '-' || close == '+') ++end;
        if (Starts(end, "%}")) {
          AddText(position_, TextEnd(at, '%', sign));
          CloseBlock(close, end + 2);
          return absl::OkStatus();
        }
      }
      at += 2;
    }
    return Error("{% raw %} has no {% endraw %}");
  }

  absl::Status Tag(bool is_output) {
    Add(is_output ? TokenKind::kOutputBegin : TokenKind::kStatementBegin, "");
    const std::string_view mark = is_output ? "}}" : "%}";
    const TokenKind end = is_output ? TokenKind::kOutputEnd : TokenKind::kStatementEnd;
    int open_brackets = 0;
    while (true) {
      SkipSpaces();
      if (position_ >= source_.size()) {
        return Error(is_output ? "{{ has no end }}" : "{% has no end %}");
      }
      const char c = source_[position_];
      const bool signed_mark =
          (c == '-' || (c == '+' && !is_output)) && Starts(position_ + 1, mark);
      if (open_brackets == 0 && (Starts(position_, mark) || signed_mark)) {
        Add(end, "");
        const size_t mark_end = position_ + mark.size() + (signed_mark ? 1 : 0);
        if (!is_output) {
          CloseBlock(c, mark_end);
        } else {
          MoveTo(mark_end);
          if (c == '-') SkipSpaces();
        }
        return absl::OkStatus();
      }
      if (c == '(' || c == '[' || c == '{') ++open_brackets;
      if (c == ')' || c == ']' || c == '}') {
        if (open_brackets == 0) return Error(absl::StrCat("unexpected ", std::string(1, c)));
        --open_brackets;
      }
      MILI_RETURN_IF_ERROR(Inside());
    }
  }

  // One token inside a tag.
  absl::Status Inside() {
    const char c = source_[position_];
    if (c == '\'' || c == '"') return String(c);
    if (IsDigit(c)) return Number();
    size_t end = position_;
    if (IsNameStart(c)) {
      while (IsNamePart(At(end)) && end < source_.size()) ++end;
      Add(TokenKind::kName, source_.substr(position_, end - position_));
      MoveTo(end);
      return absl::OkStatus();
    }
    const std::string_view rest = std::string_view(source_).substr(position_);
    size_t length = 1;
    for (size_t i = 0; i < 6; ++i) {
      if (rest.substr(0, 2) == kLongOperators[i]) length = 2;
    }
    if (length == 1 && std::string_view("+-*/%~[](){}<>=.:|,").find(c) == std::string_view::npos) {
      return Error(absl::StrCat("unexpected character ", std::string(1, c)));
    }
    Add(TokenKind::kOperator, std::string(rest.substr(0, length)));
    MoveTo(position_ + length);
    return absl::OkStatus();
  }

  absl::Status Number() {
    std::string digits;
    size_t at = position_;
    const auto take = [&] {
      while (IsDigit(At(at)) || (At(at) == '_' && IsDigit(At(at + 1)))) {
        if (source_[at] != '_') digits.push_back(source_[at]);
        ++at;
      }
    };
    take();
    bool is_float = false;
    // After a dot a number is an index: a.0.1 holds no 0.1.
    const bool after_dot = !tokens_.empty() && tokens_.back().text == "." &&
                           tokens_.back().kind == TokenKind::kOperator;
    if (!after_dot && At(at) == '.' && IsDigit(At(at + 1))) {
      is_float = true;
      digits.push_back('.');
      ++at;
      take();
    }
    const size_t exponent = At(at + 1) == '+' || At(at + 1) == '-' ? at + 2 : at + 1;
    if (!after_dot && (At(at) == 'e' || At(at) == 'E') && IsDigit(At(exponent))) {
      is_float = true;
      digits.append(source_, at, exponent - at);
      at = exponent;
      take();
    }
    Add(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(digits));
    MoveTo(at);
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    std::string text;
    size_t at = position_ + 1;
    while (at < source_.size() && source_[at] != quote) {
      if (source_[at] != '\\') {
        text.push_back(source_[at++]);
        continue;
      }
      MILI_RETURN_IF_ERROR(Escape(&at, &text));
    }
    if (at >= source_.size())
      return Error(absl::StrCat("a string has no end ", std::string(1, quote)));
    Add(TokenKind::kString, std::move(text));
    MoveTo(at + 1);
    return absl::OkStatus();
  }

  // Python's escapes. `at` stands on the backslash.
  absl::Status Escape(size_t* at, std::string* text) {
    static constexpr std::string_view kLetters = "abfnrtv\\'\"";
    static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    const char c = At(*at + 1);
    const size_t letter = kLetters.find(c);
    if (c != '\0' && letter != std::string_view::npos) {
      text->push_back(kMeanings[letter]);
      *at += 2;
      return absl::OkStatus();
    }
    if (c == '\n') {  // a line continued
      *at += 2;
      return absl::OkStatus();
    }
    if (c >= '0' && c <= '7') {
      uint32_t code = 0;
      size_t end = *at + 1;
      while (end < *at + 4 && At(end) >= '0' && At(end) <= '7') code = code * 8 + (At(end++) - '0');
      text::AppendCodePoint(code, *text);
      *at = end;
      return absl::OkStatus();
    }
    const size_t num_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (num_digits == 0) {
      if (c == 'N') {
        return absl::UnimplementedError(
            absl::StrCat("chat template line ", line_, ": the escape \\N{...} is not supported"));
      }
      text->push_back('\\');  // an unknown escape stands for itself
      *at += 1;
      return absl::OkStatus();
    }
    uint64_t code = 0;
    for (size_t i = 0; i < num_digits; ++i) {
      const char digit = At(*at + 2 + i);
      const size_t value =
          std::string_view("0123456789abcdef").find(digit | (digit >= 'A' ? 32 : 0));
      if (digit == '\0' || value == std::string_view::npos) {
        return Error("an escape in a string lacks hexadecimal digits");
      }
      code = code * 16 + value;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      return Error("an escape in a string names no character");
    }
    text::AppendCodePoint(static_cast<uint32_t>(code), *text);
    *at += 2 + num_digits;
    return absl::OkStatus();
  }

  const std::string source_;
  size_t position_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the chat template has ", source.size(),
                                                   " bytes, at most ", kMaxTemplateBytes,
                                                   " are taken"));
  }
  return Lexer(NormalizeLines(source)).Run();
}

}  // namespace mili::router::jinja

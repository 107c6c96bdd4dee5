#include "tools/mili/json_line.h"

#include <charconv>
#include <optional>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "common/base/strings.h"

namespace mili {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

// What stands at the beginning of `text`, for an error.
std::string Found(std::string_view text) {
  if (text.empty()) return "the end of the line";
  const unsigned char c = static_cast<unsigned char>(text[0]);
  if (c < 0x20 || c >= 0x7F) return absl::StrFormat("the byte 0x%02x", c);
  return absl::StrCat("'", ToAbsl(text.substr(0, 1)), "'");
}

void AppendUtf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += static_cast<char>(0xC0 | c >> 6);
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *out += static_cast<char>(0xE0 | c >> 12);
    *out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    *out += static_cast<char>(0xF0 | c >> 18);
    *out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    *out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

// The four hexadecimal digits that `text` begins with.
std::optional<uint32_t> HexDigits(std::string_view text) {
  uint32_t value = 0;
  if (text.size() < 4) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + 4, value, 16);
  if (error != std::errc() || end != text.data() + 4) return std::nullopt;
  return value;
}

// Decodes the escape behind a backslash at the beginning of `rest` and takes it off.
bool TakeEscape(std::string_view& rest, std::string* out) {
  if (rest.empty()) return false;
  const char kind = rest[0];
  rest.remove_prefix(1);
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
  if (const size_t at = kNames.find(kind); at != std::string_view::npos) {
    *out += kValues[at];
    return true;
  }
  std::optional<uint32_t> unit;
  if (kind != 'u' || !(unit = HexDigits(rest))) return false;
  rest.remove_prefix(4);
  if (*unit < 0xD800 || *unit > 0xDFFF) {
    AppendUtf8(*unit, out);
    return true;
  }
  std::optional<uint32_t> low;
  if (*unit < 0xDC00 && rest.substr(0, 2) == "\\u") low = HexDigits(rest.substr(2));
  if (low && *low >= 0xDC00 && *low <= 0xDFFF) {
    AppendUtf8(0x10000 + ((*unit - 0xD800) << 10) + (*low - 0xDC00), out);
    rest.remove_prefix(6);
  } else {
    AppendUtf8(0xFFFD, out);
  }
  return true;
}

}  // namespace

absl::StatusOr<std::string> ParseJsonString(std::string_view line) {
  const std::string_view whole = Trim(line);
  std::string_view rest = whole;
  const auto error = [&](const auto&... what) {
    return absl::InvalidArgumentError(
        absl::StrCat("column ", whole.size() - rest.size() + 1, ": ", what...));
  };
  if (rest.empty() || rest[0] != '"') return error("expected a JSON string, found ", Found(rest));
  rest.remove_prefix(1);
  std::string text;
  text.reserve(rest.size());
  while (true) {
    size_t plain = 0;
    while (plain < rest.size() && rest[plain] != '"' && rest[plain] != '\\' &&
           static_cast<unsigned char>(rest[plain]) >= 0x20) {
      ++plain;
    }
    text += rest.substr(0, plain);
    rest.remove_prefix(plain);
    if (rest.empty()) return error("the string has no closing quote");
    const char c = rest[0];
    if (c != '"' && c != '\\') return error("a control character must be escaped");
    rest.remove_prefix(1);
    if (c == '"') break;
    if (!TakeEscape(rest, &text)) return error("unknown escape in the string");
  }
  if (!rest.empty()) return error("expected the end of the line, found ", Found(rest));
  return text;
}

absl::StatusOr<std::vector<uint32_t>> ParseJsonIds(std::string_view line) {
  const std::string_view whole = Trim(line);
  std::string_view rest = whole;
  const auto error = [&](const char* expected) {
    return absl::InvalidArgumentError(absl::StrCat("column ", whole.size() - rest.size() + 1,
                                                   ": expected ", expected, ", found ",
                                                   Found(rest)));
  };
  const auto skip_spaces = [&] {
    while (!rest.empty() && IsSpace(rest[0])) rest.remove_prefix(1);
  };
  if (rest.empty() || rest[0] != '[') return error("a JSON array of token ids");
  rest.remove_prefix(1);
  skip_spaces();
  std::vector<uint32_t> ids;
  const bool is_empty = !rest.empty() && rest[0] == ']';
  while (!is_empty) {
    skip_spaces();
    uint32_t id = 0;
    const auto [end, problem] = std::from_chars(rest.data(), rest.data() + rest.size(), id);
    if (problem != std::errc()) return error("a token id");
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    ids.push_back(id);
    skip_spaces();
    if (rest.empty() || (rest[0] != ',' && rest[0] != ']')) return error("',' or ']'");
    if (rest[0] == ']') break;
    rest.remove_prefix(1);
  }
  rest.remove_prefix(1);
  if (!rest.empty()) return error("the end of the line");
  return ids;
}

void AppendJsonIds(const std::vector<uint32_t>& ids, std::string* out) {
  *out += '[';
  char digits[10];
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i != 0) *out += ", ";
    const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), ids[i]);
    out->append(digits, end);
  }
  *out += ']';
}

}  // namespace mili

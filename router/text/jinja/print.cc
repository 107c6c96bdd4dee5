#include "router/text/jinja/print.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/text/utf8.h"

namespace mili::router::jinja {
namespace {

absl::Status Write(Budget& budget, std::string_view bytes, Text& out) {
  MILI_RETURN_IF_ERROR(budget.Bytes(bytes.size()));
  out.Append(bytes, false);
  return absl::OkStatus();
}

void AppendHex(std::string& out, const char* prefix, uint32_t value, int width) {
  char digits[16];
  std::snprintf(digits, sizeof(digits), "%s%0*x", prefix, width, value);
  out += digits;
}

// Python picks single quotes unless the text holds those and no double ones.
absl::Status AppendStringRepr(Budget& budget, const Text& text, Text& out) {
  const bool has_single = text.bytes().find('\'') != std::string::npos;
  const bool has_double = text.bytes().find('"') != std::string::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  MILI_RETURN_IF_ERROR(budget.Bytes(2 * text.size() + 2));
  out.Append(std::string_view(&quote, 1), false);
  text.ForEachRun([&](std::string_view run, bool from_user) {
    std::string escaped;
    for (const char c : run) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == quote || c == '\\') {
        escaped.push_back('\\');
        escaped.push_back(c);
      } else if (c == '\n' || c == '\r' || c == '\t') {
        escaped += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
      } else if (byte < 0x20 || byte == 0x7F) {
        AppendHex(escaped, "\\x", byte, 2);
      } else {
        escaped.push_back(c);
      }
    }
    out.Append(escaped, from_user);
  });
  out.Append(std::string_view(&quote, 1), false);
  return absl::OkStatus();
}

absl::Status AppendListRepr(Budget& budget, const List& list, Text& out) {
  MILI_RETURN_IF_ERROR(Write(budget, list.is_tuple ? "(" : "[", out));
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) MILI_RETURN_IF_ERROR(Write(budget, ", ", out));
    MILI_RETURN_IF_ERROR(AppendRepr(budget, list.items[i], out));
  }
  if (!list.is_tuple) return Write(budget, "]", out);
  return Write(budget, list.items.size() == 1 ? ",)" : ")", out);
}

absl::Status AppendDictRepr(Budget& budget, const Dict& dict, Text& out) {
  MILI_RETURN_IF_ERROR(Write(budget, "{", out));
  for (size_t i = 0; i < dict.entries.size(); ++i) {
    if (i > 0) MILI_RETURN_IF_ERROR(Write(budget, ", ", out));
    MILI_RETURN_IF_ERROR(AppendRepr(budget, dict.entries[i].first, out));
    MILI_RETURN_IF_ERROR(Write(budget, ": ", out));
    MILI_RETURN_IF_ERROR(AppendRepr(budget, dict.entries[i].second, out));
  }
  return Write(budget, "}", out);
}

void EscapeJson(std::string_view run, bool ensure_ascii, std::string& out) {
  for (size_t i = 0; i < run.size();) {
    const char c = run[i];
    const auto byte = static_cast<unsigned char>(c);
    static constexpr std::string_view kSpecial = "\"\\\n\r\t\f\b";
    static constexpr std::string_view kEscapes = "\"\\nrtfb";
    const size_t special = kSpecial.find(c);
    if (special != std::string_view::npos) {
      out.push_back('\\');
      out.push_back(kEscapes[special]);
      ++i;
    } else if (byte < 0x20) {
      AppendHex(out, "\\u", byte, 4);
      ++i;
    } else if (byte < 0x80 || !ensure_ascii) {
      out.push_back(c);
      ++i;
    } else {
      const text::Utf8Unit unit = text::FirstUnit(run.substr(i));
      uint32_t code = 0xFFFD;
      if (unit.kind == text::Utf8Kind::kValid) code = text::DecodeAt(run.data() + i).value;
      if (code >= 0x10000) {
        AppendHex(out, "\\u", 0xD800 + ((code - 0x10000) >> 10), 4);
        code = 0xDC00 + ((code - 0x10000) & 0x3FF);
      }
      AppendHex(out, "\\u", code, 4);
      i += unit.size_bytes;
    }
  }
}

class JsonWriter {
 public:
  JsonWriter(Budget& budget, const JsonStyle& style, Text& out)
      : budget_(budget), style_(style), out_(out) {}

  absl::Status Append(const Value& value) {
    int64_t integer = 0;
    double number = 0;
    if (value.is_none()) return Write(budget_, "null", out_);
    if (value.Is<bool>()) return Write(budget_, value.IsTrue() ? "true" : "false", out_);
    if (value.AsInt(&integer)) return Write(budget_, absl::StrCat(integer), out_);
    if (value.AsDouble(&number)) return Write(budget_, Number(number), out_);
    if (value.text() != nullptr) return String(*value.text());
    if (value.list() != nullptr) return ListJson(*value.list());
    if (value.dict() != nullptr) return DictJson(*value.dict());
    if (value.is_undefined()) return absl::InvalidArgumentError(value.undefined()->what);
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(value.TypeName()), " cannot be written as JSON"));
  }

 private:
  static std::string Number(double number) {
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(number);
  }

  absl::Status String(const Text& text) {
    MILI_RETURN_IF_ERROR(budget_.Bytes(2 * text.size() + 2));
    out_.Append("\"", false);
    text.ForEachRun([&](std::string_view run, bool from_user) {
      std::string escaped;
      EscapeJson(run, style_.ensure_ascii, escaped);
      out_.Append(escaped, from_user);
    });
    out_.Append("\"", false);
    return absl::OkStatus();
  }

  absl::Status LineBreak() {
    if (!style_.indent.has_value()) return absl::OkStatus();
    std::string line = "\n";
    for (int i = 0; i < level_; ++i) line += *style_.indent;
    return Write(budget_, line, out_);
  }

  absl::Status ListJson(const List& list) {
    if (list.items.empty()) return Write(budget_, "[]", out_);
    MILI_RETURN_IF_ERROR(Write(budget_, "[", out_));
    ++level_;
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) MILI_RETURN_IF_ERROR(Write(budget_, style_.item_separator, out_));
      MILI_RETURN_IF_ERROR(LineBreak());
      MILI_RETURN_IF_ERROR(Append(list.items[i]));
    }
    --level_;
    MILI_RETURN_IF_ERROR(LineBreak());
    return Write(budget_, "]", out_);
  }

  absl::Status DictJson(const Dict& dict) {
    if (dict.entries.empty()) return Write(budget_, "{}", out_);
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      absl::Status status;
      std::stable_sort(entries.begin(), entries.end(), [&status](const auto* a, const auto* b) {
        absl::StatusOr<bool> less = Less(a->first, b->first);
        if (!less.ok()) status = less.status();
        return less.ok() && *less;
      });
      MILI_RETURN_IF_ERROR(status);
    }
    MILI_RETURN_IF_ERROR(Write(budget_, "{", out_));
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) MILI_RETURN_IF_ERROR(Write(budget_, style_.item_separator, out_));
      MILI_RETURN_IF_ERROR(LineBreak());
      MILI_RETURN_IF_ERROR(Key(entries[i]->first));
      MILI_RETURN_IF_ERROR(Write(budget_, style_.key_separator, out_));
      MILI_RETURN_IF_ERROR(Append(entries[i]->second));
    }
    --level_;
    MILI_RETURN_IF_ERROR(LineBreak());
    return Write(budget_, "}", out_);
  }

  // Keys are strings in JSON: numbers and the like are quoted.
  absl::Status Key(const Value& key) {
    if (key.text() != nullptr) return String(*key.text());
    MILI_RETURN_IF_ERROR(Write(budget_, "\"", out_));
    MILI_RETURN_IF_ERROR(Append(key));
    return Write(budget_, "\"", out_);
  }

  Budget& budget_;
  const JsonStyle& style_;
  Text& out_;
  int level_ = 0;
};

}  // namespace

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // d.ddde±xx, the shortest; Python writes exponents below -4 and from 16 on.
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t e = text.find('e');
  int exponent = 0;
  const size_t digits = text[e + 1] == '+' ? e + 2 : e + 1;
  std::from_chars(text.data() + digits, text.data() + text.size(), exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const auto fixed =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed).ptr;
  std::string plain(buffer, static_cast<size_t>(fixed - buffer));
  if (plain.find('.') == std::string::npos) plain += ".0";
  return plain;
}

absl::Status AppendStr(Budget& budget, const Value& value, Text& out) {
  if (value.is_undefined()) return absl::OkStatus();
  if (value.text() == nullptr) return AppendRepr(budget, value, out);
  MILI_RETURN_IF_ERROR(budget.Bytes(value.text()->size()));
  out.Append(*value.text());
  return absl::OkStatus();
}

absl::StatusOr<Text> ToStr(Budget& budget, const Value& value) {
  Text text;
  MILI_RETURN_IF_ERROR(AppendStr(budget, value, text));
  return text;
}

absl::Status AppendRepr(Budget& budget, const Value& value, Text& out) {
  int64_t integer = 0;
  double number = 0;
  if (value.is_none()) return Write(budget, "None", out);
  if (value.is_undefined()) return Write(budget, "Undefined", out);
  if (value.Is<bool>()) return Write(budget, value.IsTrue() ? "True" : "False", out);
  if (value.AsInt(&integer)) return Write(budget, absl::StrCat(integer), out);
  if (value.AsDouble(&number)) return Write(budget, FloatRepr(number), out);
  if (value.text() != nullptr) return AppendStringRepr(budget, *value.text(), out);
  if (value.list() != nullptr) return AppendListRepr(budget, *value.list(), out);
  if (value.dict() != nullptr) return AppendDictRepr(budget, *value.dict(), out);
  return absl::InvalidArgumentError(
      absl::StrCat("a value of type ", ToAbsl(value.TypeName()), " cannot be printed"));
}

absl::Status AppendJson(Budget& budget, const Value& value, const JsonStyle& style, Text& out) {
  return JsonWriter(budget, style, out).Append(value);
}

}  // namespace mili::router::jinja

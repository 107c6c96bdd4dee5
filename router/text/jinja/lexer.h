// The lexer of the template language: text between tags, and the tokens inside them, with the
// whitespace rules of transformers' environment (trim_blocks and lstrip_blocks on, one trailing
// newline dropped). Pure function; the tokens own their text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

namespace mili::router::jinja {

enum class TokenKind {
  kText,            // outside of tags
  kStatementBegin,  // {%
  kStatementEnd,
  kOutputBegin,  // {{
  kOutputEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  int line;  // from 1
  // The name, the operator, the digits without underscores, the string without quotes and escapes.
  std::string text;
};

// Longest template taken.
inline constexpr size_t kMaxTemplateBytes = 1 << 20;

// Ends with a kEnd. INVALID_ARGUMENT with the line: a tag or string without end, a character that
// belongs nowhere, a template longer than kMaxTemplateBytes.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace mili::router::jinja

#include "router/text/jinja/token_stream.h"

#include <absl/strings/str_cat.h>

#include "common/base/strings.h"

namespace mili::router::jinja {

std::string_view NameOf(TokenKind kind) {
  switch (kind) {
    case TokenKind::kText:
      return "text";
    case TokenKind::kStatementBegin:
      return "{%";
    case TokenKind::kStatementEnd:
      return "%}";
    case TokenKind::kOutputBegin:
      return "{{";
    case TokenKind::kOutputEnd:
      return "}}";
    case TokenKind::kName:
      return "a name";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return "a number";
    case TokenKind::kOperator:
      return "an operator";
    case TokenKind::kEnd:
      return "the end of the template";
  }
  return "?";
}

absl::Status TokenStream::ExpectOperator(std::string_view op) {
  return TakeOperator(op) ? absl::OkStatus() : Expected(op);
}

absl::Status TokenStream::Expect(TokenKind kind) {
  if (Peek().kind != kind) return Expected(NameOf(kind));
  Next();
  return absl::OkStatus();
}

absl::Status TokenStream::Expected(std::string_view what) const {
  const Token& token = Peek();
  const bool has_text = token.kind == TokenKind::kName || token.kind == TokenKind::kOperator ||
                        token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat;
  return absl::InvalidArgumentError(
      absl::StrCat("chat template line ", token.line, ": expected ", ToAbsl(what), ", found ",
                   has_text ? absl::string_view(token.text) : ToAbsl(NameOf(token.kind))));
}

absl::Status TokenStream::Unsupported(std::string_view what) const {
  return absl::UnimplementedError(
      absl::StrCat("chat template line ", line(), ": ", ToAbsl(what), " is not supported"));
}

absl::Status TokenStream::TooDeep() const {
  return absl::InvalidArgumentError(
      absl::StrCat("chat template line ", line(), ": nests too deeply"));
}

}  // namespace mili::router::jinja

// TokenStream: the parser's place in the tokens, and how it complains. One parse, one thread.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>

#include "router/text/jinja/lexer.h"

namespace mili::router::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& Peek(size_t ahead = 0) const {
    return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
  }
  const Token& Next() {
    const Token& token = Peek();
    if (token.kind != TokenKind::kEnd) ++position_;
    return token;
  }
  int line() const { return Peek().line; }

  bool IsName(std::string_view name, size_t ahead = 0) const {
    return Peek(ahead).kind == TokenKind::kName && Peek(ahead).text == name;
  }
  bool IsOperator(std::string_view op, size_t ahead = 0) const {
    return Peek(ahead).kind == TokenKind::kOperator && Peek(ahead).text == op;
  }
  bool TakeName(std::string_view name) {
    if (!IsName(name)) return false;
    ++position_;
    return true;
  }
  bool TakeOperator(std::string_view op) {
    if (!IsOperator(op)) return false;
    ++position_;
    return true;
  }

  absl::Status ExpectOperator(std::string_view op);
  absl::Status Expect(TokenKind kind);

  // INVALID_ARGUMENT "chat template line N: expected ..., found ...".
  absl::Status Expected(std::string_view what) const;
  // UNIMPLEMENTED "chat template line N: ... is not supported".
  absl::Status Unsupported(std::string_view what) const;
  absl::Status TooDeep() const;

 private:
  std::vector<Token> tokens_;  // ends with kEnd
  size_t position_ = 0;
};

// The word for a kind of token, for messages.
std::string_view NameOf(TokenKind kind);

}  // namespace mili::router::jinja

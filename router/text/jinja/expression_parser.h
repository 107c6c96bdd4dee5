// ExpressionParser: the expressions of the template language, by recursive descent with Jinja's
// precedence. One parse, one thread; borrows the tokens.
#pragma once

#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "router/text/jinja/ast.h"
#include "router/text/jinja/token_stream.h"

namespace mili::router::jinja {

class ExpressionParser {
 public:
  // `depth` is shared with the parser of statements.
  ExpressionParser(TokenStream& tokens, int& depth) : tokens_(tokens), depth_(depth) {}

  // One expression.
  absl::StatusOr<ExprPtr> Parse();
  // One without `x if y`, which `for` and `if` leave to themselves.
  absl::StatusOr<ExprPtr> ParseWithoutCondition() { return ParseLogical(false); }
  // One, or several separated by commas: a tuple.
  absl::StatusOr<ExprPtr> ParseTuple(bool with_condition);
  // name(...)|name(...): what follows a `|` in filter and set blocks.
  absl::StatusOr<std::vector<PostfixOp>> ParseFilters();

 private:
  absl::StatusOr<ExprPtr> ParseLogical(bool is_and);
  absl::StatusOr<ExprPtr> ParseNot();
  absl::StatusOr<ExprPtr> ParseComparison();
  absl::StatusOr<ExprPtr> ParseChain(int level);
  absl::StatusOr<ExprPtr> ParseUnary(bool with_filters);
  absl::StatusOr<ExprPtr> ParsePrimary();
  absl::StatusOr<ExprPtr> ParseNumber();
  absl::StatusOr<ExprPtr> ParseBrackets();
  absl::StatusOr<ExprPtr> ParseDict();
  absl::StatusOr<ExprPtr> ParsePostfix(ExprPtr base, bool with_filters);
  absl::StatusOr<PostfixOp> ParseSubscript();
  absl::StatusOr<PostfixOp> ParseFilter();
  absl::StatusOr<PostfixOp> ParseTest();
  absl::StatusOr<CallSyntax> ParseCall();

  TokenStream& tokens_;
  int& depth_;
};

// Counts one level of nesting while it lives.
class DepthGuard {
 public:
  explicit DepthGuard(int& depth) : depth_(depth) { ++depth_; }
  ~DepthGuard() { --depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  int& depth_;
};

}  // namespace mili::router::jinja

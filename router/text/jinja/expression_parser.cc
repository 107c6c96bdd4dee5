#include "router/text/jinja/expression_parser.h"

#include <absl/status/status.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "router/text/jinja/parser.h"

namespace mili::router::jinja {
namespace {

template <typename Node>
ExprPtr Make(int line, Node node) {
  return std::make_unique<Expr>(Expr{line, std::move(node)});
}

// The arithmetic operators from the weakest to the strongest.
constexpr std::string_view kLevels[][4] = {{"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}};
constexpr int kNumLevels = 4;

}  // namespace

absl::StatusOr<ExprPtr> ExpressionParser::Parse() {
  DepthGuard guard(depth_);
  if (depth_ > kMaxSyntaxDepth) return tokens_.TooDeep();
  const int line = tokens_.line();
  MILI_ASSIGN_OR_RETURN(ExprPtr value, ParseLogical(false));
  int num_conditions = 0;
  while (tokens_.TakeName("if")) {
    if (depth_ + ++num_conditions > kMaxSyntaxDepth) return tokens_.TooDeep();
    MILI_ASSIGN_OR_RETURN(ExprPtr condition, ParseLogical(false));
    ExprPtr otherwise;
    if (tokens_.TakeName("else")) {
      MILI_ASSIGN_OR_RETURN(otherwise, Parse());
    }
    value = Make(line, Conditional{std::move(value), std::move(condition), std::move(otherwise)});
  }
  return value;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseTuple(bool with_condition) {
  const auto one = [this, with_condition] {
    return with_condition ? Parse() : ParseWithoutCondition();
  };
  const int line = tokens_.line();
  MILI_ASSIGN_OR_RETURN(ExprPtr first, one());
  if (!tokens_.IsOperator(",")) return first;
  std::vector<ExprPtr> items;
  items.push_back(std::move(first));
  while (tokens_.TakeOperator(",")) {
    const TokenKind next = tokens_.Peek().kind;
    if (next == TokenKind::kStatementEnd || next == TokenKind::kOutputEnd ||
        tokens_.IsOperator(")")) {
      break;
    }
    MILI_ASSIGN_OR_RETURN(ExprPtr item, one());
    items.push_back(std::move(item));
  }
  return Make(line, ListDisplay{std::move(items), true});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseLogical(bool is_and) {
  const auto one = [this, is_and] { return is_and ? ParseNot() : ParseLogical(true); };
  const std::string_view word = is_and ? "and" : "or";
  const int line = tokens_.line();
  MILI_ASSIGN_OR_RETURN(ExprPtr first, one());
  if (!tokens_.IsName(word)) return first;
  std::vector<ExprPtr> operands;
  operands.push_back(std::move(first));
  while (tokens_.TakeName(word)) {
    MILI_ASSIGN_OR_RETURN(ExprPtr operand, one());
    operands.push_back(std::move(operand));
  }
  return Make(line, Logical{is_and, std::move(operands)});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseNot() {
  const int line = tokens_.line();
  if (!tokens_.TakeName("not")) return ParseComparison();
  DepthGuard guard(depth_);
  if (depth_ > kMaxSyntaxDepth) return tokens_.TooDeep();
  MILI_ASSIGN_OR_RETURN(ExprPtr operand, ParseNot());
  return Make(line, Unary{Unary::Op::kNot, std::move(operand)});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseComparison() {
  const int line = tokens_.line();
  MILI_ASSIGN_OR_RETURN(ExprPtr first, ParseChain(0));
  std::vector<std::pair<std::string, ExprPtr>> rest;
  while (true) {
    std::string op;
    for (const char* symbol : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (op.empty() && tokens_.TakeOperator(symbol)) op = symbol;
    }
    if (op.empty() && tokens_.TakeName("in")) op = "in";
    if (op.empty() && tokens_.IsName("not") && tokens_.IsName("in", 1)) {
      tokens_.Next();
      tokens_.Next();
      op = "not in";
    }
    if (op.empty()) break;
    MILI_ASSIGN_OR_RETURN(ExprPtr operand, ParseChain(0));
    rest.emplace_back(std::move(op), std::move(operand));
  }
  if (rest.empty()) return first;
  return Make(line, Comparison{std::move(first), std::move(rest)});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseChain(int level) {
  if (level == kNumLevels) return ParseUnary(true);
  const int line = tokens_.line();
  MILI_ASSIGN_OR_RETURN(ExprPtr first, ParseChain(level + 1));
  std::vector<std::pair<std::string, ExprPtr>> rest;
  while (true) {
    std::string op;
    for (const std::string_view symbol : kLevels[level]) {
      if (!symbol.empty() && op.empty() && tokens_.TakeOperator(symbol)) op = symbol;
    }
    if (op.empty()) break;
    MILI_ASSIGN_OR_RETURN(ExprPtr operand, ParseChain(level + 1));
    rest.emplace_back(std::move(op), std::move(operand));
  }
  if (rest.empty()) return first;
  return Make(line, Chain{std::move(first), std::move(rest)});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseUnary(bool with_filters) {
  const int line = tokens_.line();
  ExprPtr value;
  const bool is_minus = tokens_.IsOperator("-");
  if (is_minus || tokens_.IsOperator("+")) {
    tokens_.Next();
    DepthGuard guard(depth_);
    if (depth_ > kMaxSyntaxDepth) return tokens_.TooDeep();
    MILI_ASSIGN_OR_RETURN(ExprPtr operand, ParseUnary(false));
    value = Make(line, Unary{is_minus ? Unary::Op::kMinus : Unary::Op::kPlus, std::move(operand)});
  } else {
    MILI_ASSIGN_OR_RETURN(value, ParsePrimary());
  }
  return ParsePostfix(std::move(value), with_filters);
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePrimary() {
  const Token& token = tokens_.Peek();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::kName: {
      const std::string name = tokens_.Next().text;
      if (name == "true" || name == "True") return Make(line, Constant{Value::Of(true)});
      if (name == "false" || name == "False") return Make(line, Constant{Value::Of(false)});
      if (name == "none" || name == "None") return Make(line, Constant{Value()});
      return Make(line, NameRef{name});
    }
    case TokenKind::kString: {
      std::string text;
      while (tokens_.Peek().kind == TokenKind::kString) text += tokens_.Next().text;
      return Make(line, Constant{Value::Of(std::move(text))});
    }
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return ParseNumber();
    default:
      break;
  }
  if (tokens_.IsOperator("(") || tokens_.IsOperator("[")) return ParseBrackets();
  if (tokens_.IsOperator("{")) return ParseDict();
  return tokens_.Expected("an expression");
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseNumber() {
  const Token& token = tokens_.Peek();
  const int line = token.line;
  if (token.kind == TokenKind::kFloat) {
    double number = 0;
    if (!absl::SimpleAtod(token.text, &number)) return tokens_.Expected("a number");
    tokens_.Next();
    return Make(line, Constant{Value::Of(number)});
  }
  int64_t number = 0;
  if (!absl::SimpleAtoi(token.text, &number)) return tokens_.Expected("a number of 64 bits");
  tokens_.Next();
  return Make(line, Constant{Value::Of(number)});
}

// A list, a tuple, or an expression in parentheses.
absl::StatusOr<ExprPtr> ExpressionParser::ParseBrackets() {
  const int line = tokens_.line();
  const bool is_list = tokens_.Next().text == "[";
  if (!is_list) {
    if (tokens_.TakeOperator(")")) return Make(line, ListDisplay{{}, true});
    MILI_ASSIGN_OR_RETURN(ExprPtr inner, ParseTuple(true));
    MILI_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
    return inner;
  }
  std::vector<ExprPtr> items;
  while (!tokens_.IsOperator("]")) {
    MILI_ASSIGN_OR_RETURN(ExprPtr item, Parse());
    items.push_back(std::move(item));
    if (!tokens_.TakeOperator(",")) break;
  }
  MILI_RETURN_IF_ERROR(tokens_.ExpectOperator("]"));
  return Make(line, ListDisplay{std::move(items), false});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseDict() {
  const int line = tokens_.line();
  tokens_.Next();
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
  while (!tokens_.IsOperator("}")) {
    MILI_ASSIGN_OR_RETURN(ExprPtr key, Parse());
    MILI_RETURN_IF_ERROR(tokens_.ExpectOperator(":"));
    MILI_ASSIGN_OR_RETURN(ExprPtr value, Parse());
    entries.emplace_back(std::move(key), std::move(value));
    if (!tokens_.TakeOperator(",")) break;
  }
  MILI_RETURN_IF_ERROR(tokens_.ExpectOperator("}"));
  return Make(line, DictDisplay{std::move(entries)});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePostfix(ExprPtr base, bool with_filters) {
  const int line = base->line;
  std::vector<PostfixOp> ops;
  // Once a filter was seen, `.` and `[` no longer bind: Jinja has it so.
  bool seen_filter = false;
  while (true) {
    const int op_line = tokens_.line();
    if (!seen_filter && tokens_.TakeOperator(".")) {
      const Token& token = tokens_.Peek();
      if (token.kind == TokenKind::kInteger) {
        MILI_ASSIGN_OR_RETURN(ExprPtr index, ParseNumber());
        ops.push_back({op_line, IndexOp{std::move(index)}});
        continue;
      }
      if (token.kind != TokenKind::kName) return tokens_.Expected("a name after .");
      ops.push_back({op_line, AttributeOp{tokens_.Next().text}});
    } else if (!seen_filter && tokens_.IsOperator("[")) {
      MILI_ASSIGN_OR_RETURN(PostfixOp op, ParseSubscript());
      ops.push_back(std::move(op));
    } else if (tokens_.IsOperator("(") && (with_filters || !seen_filter)) {
      MILI_ASSIGN_OR_RETURN(CallSyntax arguments, ParseCall());
      ops.push_back({op_line, CallOp{std::move(arguments)}});
    } else if (with_filters && tokens_.TakeOperator("|")) {
      seen_filter = true;
      MILI_ASSIGN_OR_RETURN(PostfixOp op, ParseFilter());
      ops.push_back(std::move(op));
    } else if (with_filters && tokens_.TakeName("is")) {
      seen_filter = true;
      MILI_ASSIGN_OR_RETURN(PostfixOp op, ParseTest());
      ops.push_back(std::move(op));
    } else {
      break;
    }
  }
  if (ops.empty()) return base;
  return Make(line, Postfix{std::move(base), std::move(ops)});
}

absl::StatusOr<PostfixOp> ExpressionParser::ParseSubscript() {
  const int line = tokens_.line();
  tokens_.Next();
  ExprPtr parts[3];
  int num_colons = 0;
  if (!tokens_.IsOperator(":")) {
    MILI_ASSIGN_OR_RETURN(parts[0], ParseTuple(true));
  }
  while (num_colons < 2 && tokens_.TakeOperator(":")) {
    ++num_colons;
    if (!tokens_.IsOperator(":") && !tokens_.IsOperator("]")) {
      MILI_ASSIGN_OR_RETURN(parts[num_colons], Parse());
    }
  }
  MILI_RETURN_IF_ERROR(tokens_.ExpectOperator("]"));
  if (num_colons == 0) return PostfixOp{line, IndexOp{std::move(parts[0])}};
  return PostfixOp{line, SliceOp{std::move(parts[0]), std::move(parts[1]), std::move(parts[2])}};
}

absl::StatusOr<std::vector<PostfixOp>> ExpressionParser::ParseFilters() {
  std::vector<PostfixOp> filters;
  do {
    MILI_ASSIGN_OR_RETURN(PostfixOp filter, ParseFilter());
    filters.push_back(std::move(filter));
  } while (tokens_.TakeOperator("|"));
  return filters;
}

absl::StatusOr<PostfixOp> ExpressionParser::ParseFilter() {
  const int line = tokens_.line();
  if (tokens_.Peek().kind != TokenKind::kName) return tokens_.Expected("the name of a filter");
  const std::string name = tokens_.Peek().text;
  const FilterFn function = FindFilter(name);
  if (function == nullptr) return tokens_.Unsupported(absl::StrCat("the filter ", name));
  tokens_.Next();
  CallSyntax arguments;
  if (tokens_.IsOperator("(")) {
    MILI_ASSIGN_OR_RETURN(arguments, ParseCall());
  }
  return PostfixOp{line, FilterOp{function, std::move(arguments)}};
}

absl::StatusOr<PostfixOp> ExpressionParser::ParseTest() {
  const int line = tokens_.line();
  const bool is_negated = tokens_.TakeName("not");
  if (tokens_.Peek().kind != TokenKind::kName) return tokens_.Expected("the name of a test");
  const std::string name = tokens_.Peek().text;
  const TestFn function = FindTest(name);
  if (function == nullptr) return tokens_.Unsupported(absl::StrCat("the test ", name));
  tokens_.Next();
  CallSyntax arguments;
  const Token& next = tokens_.Peek();
  const bool is_word = next.kind == TokenKind::kName && next.text != "else" && next.text != "or" &&
                       next.text != "and" && next.text != "is" && next.text != "if" &&
                       next.text != "in" && next.text != "not";
  if (tokens_.IsOperator("(")) {
    MILI_ASSIGN_OR_RETURN(arguments, ParseCall());
  } else if (is_word || next.kind == TokenKind::kString || next.kind == TokenKind::kInteger ||
             next.kind == TokenKind::kFloat || tokens_.IsOperator("[") || tokens_.IsOperator("{")) {
    // x is divisibleby 3: one argument may come without parentheses.
    MILI_ASSIGN_OR_RETURN(ExprPtr operand, ParsePrimary());
    MILI_ASSIGN_OR_RETURN(operand, ParsePostfix(std::move(operand), false));
    arguments.positional.push_back(std::move(operand));
  }
  return PostfixOp{line, TestOp{function, std::move(arguments), is_negated}};
}

absl::StatusOr<CallSyntax> ExpressionParser::ParseCall() {
  MILI_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
  CallSyntax call;
  while (!tokens_.IsOperator(")")) {
    if (tokens_.IsOperator("*") || tokens_.IsOperator("**")) {
      return tokens_.Unsupported("unpacking arguments with *");
    }
    if (tokens_.Peek().kind == TokenKind::kName && tokens_.IsOperator("=", 1)) {
      std::string name = tokens_.Next().text;
      tokens_.Next();
      MILI_ASSIGN_OR_RETURN(ExprPtr value, Parse());
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call.named.empty()) return tokens_.Expected("a named argument after a named one");
      MILI_ASSIGN_OR_RETURN(ExprPtr value, Parse());
      call.positional.push_back(std::move(value));
    }
    if (!tokens_.TakeOperator(",")) break;
  }
  MILI_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
  return call;
}

}  // namespace mili::router::jinja

#include "router/text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "router/text/jinja/expression_parser.h"
#include "router/text/jinja/lexer.h"
#include "router/text/jinja/token_stream.h"

namespace mili::router::jinja {
namespace {

using Words = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens)
      : tokens_(std::move(tokens)), expressions_(tokens_, depth_) {}

  absl::StatusOr<Block> Run() {
    MILI_ASSIGN_OR_RETURN(Block block, ParseBlock({}));
    if (tokens_.Peek().kind != TokenKind::kEnd) return tokens_.Expected("the end of the template");
    return block;
  }

 private:
  // Statements up to a tag that begins with one of `ends`; stops before that word.
  absl::StatusOr<Block> ParseBlock(Words ends) {
    DepthGuard guard(depth_);
    if (depth_ > kMaxSyntaxDepth) return tokens_.TooDeep();
    Block block;
    while (true) {
      const int line = tokens_.line();
      switch (tokens_.Peek().kind) {
        case TokenKind::kEnd:
          if (ends.size() > 0) {
            return tokens_.Expected(absl::StrCat("{% ", std::string(*(ends.end() - 1)), " %}"));
          }
          return block;
        case TokenKind::kText:
          Add(block, line, TextOut{tokens_.Next().text});
          break;
        case TokenKind::kOutputBegin: {
          tokens_.Next();
          MILI_ASSIGN_OR_RETURN(ExprPtr value, expressions_.ParseTuple(true));
          MILI_RETURN_IF_ERROR(tokens_.Expect(TokenKind::kOutputEnd));
          Add(block, line, Output{std::move(value)});
          break;
        }
        default: {
          MILI_RETURN_IF_ERROR(tokens_.Expect(TokenKind::kStatementBegin));
          for (const std::string_view end : ends) {
            if (tokens_.IsName(end)) return block;
          }
          MILI_RETURN_IF_ERROR(ParseStatement(block));
        }
      }
    }
  }

  template <typename Node>
  static void Add(Block& block, int line, Node node) {
    block.push_back(std::make_unique<Stmt>(Stmt{line, std::move(node)}));
  }

  // A block with its end tag: ... {% end %}.
  absl::StatusOr<Block> ParseBody(std::string_view end) {
    MILI_ASSIGN_OR_RETURN(Block body, ParseBlock({end}));
    tokens_.Next();
    MILI_RETURN_IF_ERROR(EndTag());
    return body;
  }

  absl::Status EndTag() { return tokens_.Expect(TokenKind::kStatementEnd); }

  absl::Status ParseStatement(Block& block) {
    const int line = tokens_.line();
    if (tokens_.Peek().kind != TokenKind::kName) return tokens_.Expected("the name of a tag");
    if (tokens_.TakeName("if")) return ParseIf(block, line);
    if (tokens_.TakeName("for")) return ParseFor(block, line);
    if (tokens_.TakeName("set")) return ParseSet(block, line);
    if (tokens_.TakeName("macro")) return ParseMacro(block, line);
    if (tokens_.TakeName("call")) return ParseCallBlock(block, line);
    if (tokens_.TakeName("filter")) return ParseFilterBlock(block, line);
    if (tokens_.TakeName("with")) return ParseWith(block, line);
    if (tokens_.TakeName("generation")) {
      // Marks what the model wrote, for training; it prints its body.
      MILI_RETURN_IF_ERROR(EndTag());
      MILI_ASSIGN_OR_RETURN(Block body, ParseBody("endgeneration"));
      Add(block, line, ScopeBlock{{}, std::move(body)});
      return absl::OkStatus();
    }
    if (tokens_.IsName("break") || tokens_.IsName("continue")) {
      if (loops_ == 0) return tokens_.Expected("a tag that may stand outside of a loop");
      Add(block, line, LoopControl{tokens_.Next().text == "break"});
      return EndTag();
    }
    for (const char* word : {"include", "import", "from", "extends", "block", "autoescape", "trans",
                             "do", "print", "debug"}) {
      if (tokens_.IsName(word))
        return tokens_.Unsupported(absl::StrCat("the tag {% ", word, " %}"));
    }
    return tokens_.Expected("the name of a tag");
  }

  absl::Status ParseIf(Block& block, int line) {
    If node;
    while (true) {
      MILI_ASSIGN_OR_RETURN(ExprPtr condition, expressions_.ParseTuple(false));
      MILI_RETURN_IF_ERROR(EndTag());
      MILI_ASSIGN_OR_RETURN(Block body, ParseBlock({"elif", "else", "endif"}));
      node.branches.emplace_back(std::move(condition), std::move(body));
      if (tokens_.TakeName("elif")) continue;
      if (tokens_.TakeName("else")) {
        MILI_RETURN_IF_ERROR(EndTag());
        MILI_ASSIGN_OR_RETURN(node.otherwise, ParseBlock({"endif"}));
      }
      tokens_.Next();
      break;
    }
    Add(block, line, std::move(node));
    return EndTag();
  }

  absl::Status ParseFor(Block& block, int line) {
    For node;
    MILI_ASSIGN_OR_RETURN(node.target, ParseNames());
    if (!tokens_.TakeName("in")) return tokens_.Expected("in");
    MILI_ASSIGN_OR_RETURN(node.iterable, expressions_.ParseTuple(false));
    if (tokens_.TakeName("if")) {
      MILI_ASSIGN_OR_RETURN(node.condition, expressions_.Parse());
    }
    if (tokens_.IsName("recursive")) return tokens_.Unsupported("a recursive loop");
    MILI_RETURN_IF_ERROR(EndTag());
    ++loops_;
    MILI_ASSIGN_OR_RETURN(node.body, ParseBlock({"else", "endfor"}));
    --loops_;
    if (tokens_.TakeName("else")) {
      MILI_RETURN_IF_ERROR(EndTag());
      MILI_ASSIGN_OR_RETURN(node.otherwise, ParseBlock({"endfor"}));
    }
    tokens_.Next();
    Add(block, line, std::move(node));
    return EndTag();
  }

  // a  or  a, b  or  (a, b)
  absl::StatusOr<Target> ParseNames() {
    Target target;
    const bool in_parentheses = tokens_.TakeOperator("(");
    while (true) {
      if (tokens_.IsOperator("(")) return tokens_.Unsupported("unpacking inside of unpacking");
      MILI_ASSIGN_OR_RETURN(std::string name, ParseName());
      target.names.push_back(std::move(name));
      if (!tokens_.TakeOperator(",")) break;
      target.unpacks = true;
      if (tokens_.Peek().kind != TokenKind::kName || tokens_.IsName("in")) break;
    }
    if (in_parentheses) MILI_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
    return target;
  }

  absl::StatusOr<std::string> ParseName() {
    static constexpr std::string_view kReserved[] = {"true", "false", "none", "True", "False",
                                                     "None", "and",   "or",   "not",  "in",
                                                     "is",   "if",    "else"};
    const Token& token = tokens_.Peek();
    if (token.kind != TokenKind::kName ||
        std::find(std::begin(kReserved), std::end(kReserved), token.text) != std::end(kReserved)) {
      return tokens_.Expected("a name");
    }
    return tokens_.Next().text;
  }

  absl::Status ParseSet(Block& block, int line) {
    MILI_ASSIGN_OR_RETURN(Target target, ParseNames());
    if (!target.unpacks && tokens_.TakeOperator(".")) {
      MILI_ASSIGN_OR_RETURN(target.attribute, ParseName());
    }
    if (tokens_.TakeOperator("=")) {
      MILI_ASSIGN_OR_RETURN(ExprPtr value, expressions_.ParseTuple(true));
      Add(block, line, Set{std::move(target), std::move(value)});
      return EndTag();
    }
    std::vector<PostfixOp> filters;
    if (tokens_.TakeOperator("|")) {
      MILI_ASSIGN_OR_RETURN(filters, expressions_.ParseFilters());
    }
    if (target.unpacks) return tokens_.Expected("=");
    MILI_RETURN_IF_ERROR(EndTag());
    MILI_ASSIGN_OR_RETURN(Block body, ParseBody("endset"));
    Add(block, line, SetBlock{std::move(target), std::move(filters), std::move(body)});
    return absl::OkStatus();
  }

  absl::Status ParseParameters(MacroDef& macro) {
    MILI_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
    while (!tokens_.IsOperator(")")) {
      MILI_ASSIGN_OR_RETURN(std::string name, ParseName());
      macro.parameters.push_back(std::move(name));
      if (tokens_.TakeOperator("=")) {
        MILI_ASSIGN_OR_RETURN(ExprPtr value, expressions_.Parse());
        macro.defaults.push_back(std::move(value));
      } else if (!macro.defaults.empty()) {
        return tokens_.Expected("a default: parameters before this one have theirs");
      }
      if (!tokens_.TakeOperator(",")) break;
    }
    return tokens_.ExpectOperator(")");
  }

  absl::Status ParseMacro(Block& block, int line) {
    MacroStmt node;
    MILI_ASSIGN_OR_RETURN(node.macro.name, ParseName());
    MILI_RETURN_IF_ERROR(ParseParameters(node.macro));
    MILI_RETURN_IF_ERROR(EndTag());
    const int loops = std::exchange(loops_, 0);
    MILI_ASSIGN_OR_RETURN(node.macro.body, ParseBody("endmacro"));
    loops_ = loops;
    Add(block, line, std::move(node));
    return absl::OkStatus();
  }

  absl::Status ParseCallBlock(Block& block, int line) {
    CallBlock node;
    node.caller.name = "caller";
    if (tokens_.IsOperator("(")) MILI_RETURN_IF_ERROR(ParseParameters(node.caller));
    MILI_ASSIGN_OR_RETURN(node.call, expressions_.Parse());
    const auto* postfix = std::get_if<Postfix>(&node.call->node);
    if (postfix == nullptr || !std::holds_alternative<CallOp>(postfix->ops.back().op)) {
      return tokens_.Expected("a call");
    }
    MILI_RETURN_IF_ERROR(EndTag());
    const int loops = std::exchange(loops_, 0);
    MILI_ASSIGN_OR_RETURN(node.caller.body, ParseBody("endcall"));
    loops_ = loops;
    Add(block, line, std::move(node));
    return absl::OkStatus();
  }

  absl::Status ParseFilterBlock(Block& block, int line) {
    FilterBlock node;
    MILI_ASSIGN_OR_RETURN(node.filters, expressions_.ParseFilters());
    MILI_RETURN_IF_ERROR(EndTag());
    MILI_ASSIGN_OR_RETURN(node.body, ParseBody("endfilter"));
    Add(block, line, std::move(node));
    return absl::OkStatus();
  }

  absl::Status ParseWith(Block& block, int line) {
    ScopeBlock node;
    while (tokens_.Peek().kind != TokenKind::kStatementEnd) {
      MILI_ASSIGN_OR_RETURN(std::string name, ParseName());
      MILI_RETURN_IF_ERROR(tokens_.ExpectOperator("="));
      MILI_ASSIGN_OR_RETURN(ExprPtr value, expressions_.Parse());
      node.variables.emplace_back(std::move(name), std::move(value));
      if (!tokens_.TakeOperator(",")) break;
    }
    MILI_RETURN_IF_ERROR(EndTag());
    MILI_ASSIGN_OR_RETURN(node.body, ParseBody("endwith"));
    Add(block, line, std::move(node));
    return absl::OkStatus();
  }

  TokenStream tokens_;
  int depth_ = 0;
  int loops_ = 0;  // for loops around this place, within the macro
  ExpressionParser expressions_;
};

}  // namespace

absl::StatusOr<Block> ParseTemplate(std::string_view source) {
  MILI_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace mili::router::jinja

// The syntax tree of a template. Immutable once parsed; renders share it. Chains of operators are
// flat, and the parser bounds nesting, so walking the tree needs little stack.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "router/text/jinja/builtins.h"
#include "router/text/jinja/value.h"

namespace mili::router::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<std::unique_ptr<Stmt>>;

struct CallSyntax {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
};

struct Constant {
  Value value;
};
struct NameRef {
  std::string name;
};
struct ListDisplay {
  std::vector<ExprPtr> items;
  bool is_tuple;
};
struct DictDisplay {
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};
struct Unary {
  enum class Op { kNot, kMinus, kPlus } op;
  ExprPtr operand;
};
// first op operand op operand ..., from left to right; all of one precedence.
struct Chain {
  ExprPtr first;
  std::vector<std::pair<std::string, ExprPtr>> rest;
};
// As Chain, but Python's a < b < c; also "in" and "not in".
struct Comparison {
  ExprPtr first;
  std::vector<std::pair<std::string, ExprPtr>> rest;
};
struct Logical {
  bool is_and;
  std::vector<ExprPtr> operands;
};
struct Conditional {
  ExprPtr then;
  ExprPtr condition;
  ExprPtr otherwise;  // null: undefined
};

struct AttributeOp {
  std::string name;
};
struct IndexOp {
  ExprPtr key;
};
struct SliceOp {
  ExprPtr lower;  // null where left out
  ExprPtr upper;
  ExprPtr step;
};
struct CallOp {
  CallSyntax arguments;
};
struct FilterOp {
  FilterFn function;
  CallSyntax arguments;
};
struct TestOp {
  TestFn function;
  CallSyntax arguments;
  bool is_negated;
};
struct PostfixOp {
  int line;
  std::variant<AttributeOp, IndexOp, SliceOp, CallOp, FilterOp, TestOp> op;
};
// base.a[b](c)|filter is test ..., from left to right.
struct Postfix {
  ExprPtr base;
  std::vector<PostfixOp> ops;
};

struct Expr {
  int line;
  std::variant<Constant, NameRef, ListDisplay, DictDisplay, Unary, Chain, Comparison, Logical,
               Conditional, Postfix>
      node;
};

// What a value is bound to: names (several unpack), or an attribute of a namespace.
struct Target {
  std::vector<std::string> names;
  std::string attribute;  // not empty: names[0].attribute
  bool unpacks = false;
};

struct MacroDef {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  Block body;
};

struct TextOut {
  std::string text;
};
struct Output {
  ExprPtr value;
};
struct If {
  std::vector<std::pair<ExprPtr, Block>> branches;
  Block otherwise;
};
struct For {
  Target target;
  ExprPtr iterable;
  ExprPtr condition;  // null: all
  Block body;
  Block otherwise;
};
struct Set {
  Target target;
  ExprPtr value;
};
struct SetBlock {
  Target target;
  std::vector<PostfixOp> filters;
  Block body;
};
struct MacroStmt {
  MacroDef macro;
};
struct CallBlock {
  MacroDef caller;
  ExprPtr call;  // a Postfix whose last op is a CallOp
};
struct FilterBlock {
  std::vector<PostfixOp> filters;
  Block body;
};
// {% with %} and {% generation %}: a scope of its own.
struct ScopeBlock {
  std::vector<std::pair<std::string, ExprPtr>> variables;
  Block body;
};
struct LoopControl {
  bool is_break;
};

struct Stmt {
  int line;
  std::variant<TextOut, Output, If, For, Set, SetBlock, MacroStmt, CallBlock, FilterBlock,
               ScopeBlock, LoopControl>
      node;
};

}  // namespace mili::router::jinja

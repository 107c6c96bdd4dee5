// Interpreter: runs a syntax tree once. It owns what the run makes and counts what it spends.
// One render, one thread; borrows the tree.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/status/statusor.h>

#include "router/text/jinja/ast.h"
#include "router/text/jinja/budget.h"
#include "router/text/jinja/builtins.h"
#include "router/text/jinja/text.h"
#include "router/text/jinja/value.h"

namespace mili::router::jinja {

class Interpreter {
 public:
  // `now` is what strftime_now sees.
  Interpreter(const Limits& limits, absl::Time now);

  void SetVariable(const std::string& name, Value value);
  // INVALID_ARGUMENT with the line, or the words of raise_exception alone; UNIMPLEMENTED with the
  // line for a method that the core lacks. At most once.
  absl::StatusOr<Text> Run(const Block& block);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  struct Scope {
    size_t parent;  // its place on the stack; the root is its own
    uint64_t serial;
    absl::flat_hash_map<std::string, Value> variables;
  };
  // Enters a scope or a level of nesting, and leaves it when destroyed.
  class ScopeGuard;
  class OutputGuard;

  // Statements (interpreter.cc).
  absl::StatusOr<Flow> ExecBlock(const Block& block);
  absl::StatusOr<Flow> Exec(const Stmt& stmt);
  absl::StatusOr<Flow> ExecNode(const TextOut& node);
  absl::StatusOr<Flow> ExecNode(const Output& node);
  absl::StatusOr<Flow> ExecNode(const If& node);
  absl::StatusOr<Flow> ExecNode(const For& node);
  absl::StatusOr<Flow> ExecNode(const Set& node);
  absl::StatusOr<Flow> ExecNode(const SetBlock& node);
  absl::StatusOr<Flow> ExecNode(const MacroStmt& node);
  absl::StatusOr<Flow> ExecNode(const CallBlock& node);
  absl::StatusOr<Flow> ExecNode(const FilterBlock& node);
  absl::StatusOr<Flow> ExecNode(const ScopeBlock& node);
  absl::StatusOr<Flow> ExecNode(const LoopControl& node);
  absl::Status Assign(const Target& target, const Value& value);
  absl::StatusOr<std::vector<Value>> LoopItems(const For& node);
  absl::StatusOr<Value> MakeMacro(const MacroDef& definition);

  // Expressions (evaluate.cc).
  absl::StatusOr<Value> Eval(const Expr& expr);
  absl::StatusOr<Value> EvalNode(const Constant& node);
  absl::StatusOr<Value> EvalNode(const NameRef& node);
  absl::StatusOr<Value> EvalNode(const ListDisplay& node);
  absl::StatusOr<Value> EvalNode(const DictDisplay& node);
  absl::StatusOr<Value> EvalNode(const Unary& node);
  absl::StatusOr<Value> EvalNode(const Chain& node);
  absl::StatusOr<Value> EvalNode(const Comparison& node);
  absl::StatusOr<Value> EvalNode(const Logical& node);
  absl::StatusOr<Value> EvalNode(const Conditional& node);
  absl::StatusOr<Value> EvalNode(const Postfix& node);
  absl::StatusOr<Value> EvalOptional(const ExprPtr& expr);
  absl::StatusOr<Arguments> EvalArguments(const CallSyntax& call);

  absl::StatusOr<Value> Apply(const Value& base, const PostfixOp& op);
  absl::StatusOr<Value> ApplyOp(const Value& base, const AttributeOp& op);
  absl::StatusOr<Value> ApplyOp(const Value& base, const IndexOp& op);
  absl::StatusOr<Value> ApplyOp(const Value& base, const SliceOp& op);
  absl::StatusOr<Value> ApplyOp(const Value& base, const CallOp& op);
  absl::StatusOr<Value> ApplyOp(const Value& base, const FilterOp& op);
  absl::StatusOr<Value> ApplyOp(const Value& base, const TestOp& op);

  absl::StatusOr<Value> Call(const Value& function, const Arguments& arguments);
  absl::StatusOr<Value> CallMacro(const Callable::Macro& macro, const Arguments& arguments);
  absl::StatusOr<Value> MakeNamespace(const Arguments& arguments);

  Budget budget_;
  Context context_;
  std::vector<Scope> scopes_;
  size_t scope_ = 0;  // the current one
  uint64_t next_serial_ = 1;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  Text* out_ = nullptr;
  int depth_ = 0;
  int line_ = 1;  // of what runs now, for messages
};

}  // namespace mili::router::jinja

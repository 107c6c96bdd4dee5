// The expressions of Interpreter.
#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "router/text/jinja/interpreter.h"
#include "router/text/jinja/print.h"

namespace mili::router::jinja {
namespace {

Value MakeCallable(decltype(Callable::target) target) {
  return Value(Value::Data(std::make_shared<const Callable>(Callable{std::move(target)})));
}

absl::StatusOr<bool> Compare(Context& context, const std::string& op, const Value& a,
                             const Value& b) {
  const uint64_t weight = std::min(a.extent().weight, b.extent().weight);
  MILI_RETURN_IF_ERROR(context.budget.Steps(static_cast<int64_t>(weight)));
  if (op == "==") return Equal(a, b);
  if (op == "!=") return !Equal(a, b);
  if (op == "<") return Less(a, b);
  if (op == ">") return Less(b, a);
  if (op == "in") return Contains(context, b, a);
  absl::StatusOr<bool> opposite = op == "<="   ? Less(b, a)
                                  : op == ">=" ? Less(a, b)
                                               : Contains(context, b, a);
  if (!opposite.ok()) return opposite;
  return !*opposite;
}

}  // namespace

absl::StatusOr<Value> Interpreter::Eval(const Expr& expr) {
  line_ = expr.line;
  MILI_RETURN_IF_ERROR(budget_.Steps(1));
  if (depth_ >= budget_.limits().max_depth) {
    return absl::InvalidArgumentError("the template nests too deeply");
  }
  ++depth_;
  absl::StatusOr<Value> value =
      std::visit([this](const auto& node) { return EvalNode(node); }, expr.node);
  --depth_;
  return value;
}

absl::StatusOr<Value> Interpreter::EvalNode(const Constant& node) { return node.value; }

absl::StatusOr<Value> Interpreter::EvalNode(const NameRef& node) {
  for (size_t at = scope_;; at = scopes_[at].parent) {
    const auto found = scopes_[at].variables.find(node.name);
    if (found != scopes_[at].variables.end()) return found->second;
    if (at == 0) break;
  }
  if (const auto function = FindGlobal(node.name)) return MakeCallable(*function);
  return Value::MakeUndefined(absl::StrCat("'", node.name, "' is undefined"));
}

absl::StatusOr<Value> Interpreter::EvalNode(const ListDisplay& node) {
  std::vector<Value> items;
  for (const ExprPtr& item : node.items) {
    MILI_ASSIGN_OR_RETURN(Value value, Eval(*item));
    items.push_back(std::move(value));
  }
  MILI_RETURN_IF_ERROR(budget_.Bytes(items.size() * sizeof(Value)));
  return Value::MakeList(std::move(items), node.is_tuple);
}

absl::StatusOr<Value> Interpreter::EvalNode(const DictDisplay& node) {
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [key_expr, value_expr] : node.entries) {
    MILI_ASSIGN_OR_RETURN(Value key, Eval(*key_expr));
    MILI_ASSIGN_OR_RETURN(Value value, Eval(*value_expr));
    entries.emplace_back(std::move(key), std::move(value));
  }
  const size_t count = entries.size();
  // Each entry is looked for among those before it.
  MILI_RETURN_IF_ERROR(budget_.Steps(static_cast<int64_t>(count * count)));
  MILI_RETURN_IF_ERROR(budget_.Bytes(2 * count * sizeof(Value)));
  return Value::MakeDict(std::move(entries));
}

absl::StatusOr<Value> Interpreter::EvalNode(const Unary& node) {
  MILI_ASSIGN_OR_RETURN(Value operand, Eval(*node.operand));
  if (node.op == Unary::Op::kNot) return Value::Of(!operand.IsTrue());
  if (!operand.is_number()) {
    return absl::InvalidArgumentError(operand.is_undefined() ? operand.undefined()->what
                                                             : "a sign before what is no number");
  }
  const Value zero = Value::Of(int64_t{0});
  return Compute(context_, node.op == Unary::Op::kMinus ? "-" : "+", zero, operand);
}

absl::StatusOr<Value> Interpreter::EvalNode(const Chain& node) {
  MILI_ASSIGN_OR_RETURN(Value value, Eval(*node.first));
  if (node.rest.front().first == "~") {
    Text text;
    MILI_RETURN_IF_ERROR(AppendStr(budget_, value, text));
    for (const auto& [op, operand] : node.rest) {
      MILI_ASSIGN_OR_RETURN(const Value next, Eval(*operand));
      MILI_RETURN_IF_ERROR(AppendStr(budget_, next, text));
    }
    return Value::Of(std::move(text));
  }
  for (const auto& [op, operand] : node.rest) {
    MILI_ASSIGN_OR_RETURN(const Value next, Eval(*operand));
    MILI_ASSIGN_OR_RETURN(value, Compute(context_, op, value, next));
  }
  return value;
}

absl::StatusOr<Value> Interpreter::EvalNode(const Comparison& node) {
  MILI_ASSIGN_OR_RETURN(Value left, Eval(*node.first));
  for (const auto& [op, operand] : node.rest) {
    MILI_ASSIGN_OR_RETURN(Value right, Eval(*operand));
    MILI_ASSIGN_OR_RETURN(const bool holds, Compare(context_, op, left, right));
    if (!holds) return Value::Of(false);
    left = std::move(right);
  }
  return Value::Of(true);
}

absl::StatusOr<Value> Interpreter::EvalNode(const Logical& node) {
  Value value;
  for (const ExprPtr& operand : node.operands) {
    MILI_ASSIGN_OR_RETURN(value, Eval(*operand));
    if (value.IsTrue() != node.is_and) break;
  }
  return value;
}

absl::StatusOr<Value> Interpreter::EvalNode(const Conditional& node) {
  MILI_ASSIGN_OR_RETURN(const Value condition, Eval(*node.condition));
  if (condition.IsTrue()) return Eval(*node.then);
  if (node.otherwise != nullptr) return Eval(*node.otherwise);
  return Value::MakeUndefined("an if expression without else came out false");
}

absl::StatusOr<Value> Interpreter::EvalNode(const Postfix& node) {
  MILI_ASSIGN_OR_RETURN(Value value, Eval(*node.base));
  for (const PostfixOp& op : node.ops) {
    MILI_ASSIGN_OR_RETURN(value, Apply(value, op));
  }
  return value;
}

absl::StatusOr<Value> Interpreter::EvalOptional(const ExprPtr& expr) {
  if (expr == nullptr) return Value();
  return Eval(*expr);
}

absl::StatusOr<Arguments> Interpreter::EvalArguments(const CallSyntax& call) {
  Arguments arguments;
  for (const ExprPtr& expr : call.positional) {
    MILI_ASSIGN_OR_RETURN(Value value, Eval(*expr));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, expr] : call.named) {
    MILI_ASSIGN_OR_RETURN(Value value, Eval(*expr));
    arguments.named.emplace_back(name, std::move(value));
  }
  return arguments;
}

absl::StatusOr<Value> Interpreter::Apply(const Value& base, const PostfixOp& op) {
  MILI_RETURN_IF_ERROR(budget_.Steps(1));
  line_ = op.line;
  return std::visit([&](const auto& which) { return ApplyOp(base, which); }, op.op);
}

absl::StatusOr<Value> Interpreter::ApplyOp(const Value& base, const AttributeOp& op) {
  // As Jinja does: methods hide the entries of a dict, and come after those with [].
  if (HasMethod(base, op.name)) return MakeCallable(Callable::Method{base, op.name});
  return GetAttribute(context_, base, op.name);
}

absl::StatusOr<Value> Interpreter::ApplyOp(const Value& base, const IndexOp& op) {
  MILI_ASSIGN_OR_RETURN(const Value key, Eval(*op.key));
  MILI_ASSIGN_OR_RETURN(Value item, GetItem(context_, base, key));
  if (item.is_undefined() && key.text() != nullptr && HasMethod(base, key.text()->bytes())) {
    return MakeCallable(Callable::Method{base, key.text()->bytes()});
  }
  return item;
}

absl::StatusOr<Value> Interpreter::ApplyOp(const Value& base, const SliceOp& op) {
  MILI_ASSIGN_OR_RETURN(const Value lower, EvalOptional(op.lower));
  MILI_ASSIGN_OR_RETURN(const Value upper, EvalOptional(op.upper));
  MILI_ASSIGN_OR_RETURN(const Value step, EvalOptional(op.step));
  return GetSlice(context_, base, lower, upper, step);
}

absl::StatusOr<Value> Interpreter::ApplyOp(const Value& base, const CallOp& op) {
  const int line = line_;
  MILI_ASSIGN_OR_RETURN(const Arguments arguments, EvalArguments(op.arguments));
  line_ = line;
  return Call(base, arguments);
}

absl::StatusOr<Value> Interpreter::ApplyOp(const Value& base, const FilterOp& op) {
  MILI_ASSIGN_OR_RETURN(const Arguments arguments, EvalArguments(op.arguments));
  return op.function(context_, base, arguments);
}

absl::StatusOr<Value> Interpreter::ApplyOp(const Value& base, const TestOp& op) {
  MILI_ASSIGN_OR_RETURN(const Arguments arguments, EvalArguments(op.arguments));
  MILI_ASSIGN_OR_RETURN(const bool holds, op.function(context_, base, arguments));
  return Value::Of(holds != op.is_negated);
}

absl::StatusOr<Value> Interpreter::Call(const Value& function, const Arguments& arguments) {
  if (function.is_undefined()) return absl::InvalidArgumentError(function.undefined()->what);
  const Callable* callable = function.callable();
  if (callable == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(function.TypeName()), " cannot be called"));
  }
  if (const auto* method = std::get_if<Callable::Method>(&callable->target)) {
    return CallMethod(context_, method->self, method->name, arguments);
  }
  if (const auto* macro = std::get_if<Callable::Macro>(&callable->target)) {
    return CallMacro(*macro, arguments);
  }
  const GlobalFunction global = std::get<GlobalFunction>(callable->target);
  if (global == GlobalFunction::kNamespace) return MakeNamespace(arguments);
  return CallGlobal(context_, global, arguments);
}

absl::StatusOr<Value> Interpreter::MakeNamespace(const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Value initial,
                        CallGlobal(context_, GlobalFunction::kDict, arguments));
  MILI_RETURN_IF_ERROR(budget_.Bytes(sizeof(Namespace)));
  auto made = std::make_unique<Namespace>();
  for (const auto& [key, value] : initial.dict()->entries) {
    if (key.text() != nullptr) made->entries.emplace_back(key.text()->bytes(), value);
  }
  namespaces_.push_back(std::move(made));
  return Value(Value::Data(namespaces_.back().get()));
}

}  // namespace mili::router::jinja

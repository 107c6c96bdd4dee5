#include "router/text/jinja/interpreter.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "router/text/jinja/print.h"

namespace mili::router::jinja {

// A scope whose parent is `parent`; scopes nest, so the innermost is always the last.
class Interpreter::ScopeGuard {
 public:
  ScopeGuard(Interpreter& interpreter, size_t parent)
      : interpreter_(interpreter), previous_(interpreter.scope_) {
    interpreter.scopes_.push_back({parent, interpreter.next_serial_++, {}});
    interpreter.scope_ = interpreter.scopes_.size() - 1;
  }
  explicit ScopeGuard(Interpreter& interpreter) : ScopeGuard(interpreter, interpreter.scope_) {}
  ~ScopeGuard() {
    interpreter_.scopes_.pop_back();
    interpreter_.scope_ = previous_;
  }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Interpreter& interpreter_;
  const size_t previous_;
};

// Sends what is printed into a text of its own.
class Interpreter::OutputGuard {
 public:
  OutputGuard(Interpreter& interpreter, Text* out)
      : interpreter_(interpreter), previous_(std::exchange(interpreter.out_, out)) {}
  ~OutputGuard() { interpreter_.out_ = previous_; }
  OutputGuard(const OutputGuard&) = delete;
  OutputGuard& operator=(const OutputGuard&) = delete;

 private:
  Interpreter& interpreter_;
  Text* const previous_;
};

Interpreter::Interpreter(const Limits& limits, absl::Time now)
    : budget_(limits), context_{budget_, now} {
  scopes_.push_back({0, 0, {}});
}

void Interpreter::SetVariable(const std::string& name, Value value) {
  scopes_[0].variables[name] = std::move(value);
}

absl::StatusOr<Text> Interpreter::Run(const Block& block) {
  Text text;
  OutputGuard output(*this, &text);
  const absl::Status status = ExecBlock(block).status();
  if (status.ok()) return text;
  if (IsRaised(status)) return absl::InvalidArgumentError(status.message());
  return absl::Status(status.code(),
                      absl::StrCat("chat template line ", line_, ": ", status.message()));
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecBlock(const Block& block) {
  for (const auto& stmt : block) {
    MILI_ASSIGN_OR_RETURN(const Flow flow, Exec(*stmt));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Exec(const Stmt& stmt) {
  line_ = stmt.line;
  MILI_RETURN_IF_ERROR(budget_.Steps(1));
  if (depth_ >= budget_.limits().max_depth) {
    return absl::InvalidArgumentError("the template nests too deeply");
  }
  ++depth_;
  absl::StatusOr<Flow> flow =
      std::visit([this](const auto& node) { return ExecNode(node); }, stmt.node);
  --depth_;
  return flow;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const TextOut& node) {
  MILI_RETURN_IF_ERROR(budget_.Bytes(node.text.size()));
  out_->Append(node.text, false);
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const Output& node) {
  MILI_ASSIGN_OR_RETURN(const Value value, Eval(*node.value));
  MILI_RETURN_IF_ERROR(AppendStr(budget_, value, *out_));
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const If& node) {
  for (const auto& [condition, body] : node.branches) {
    MILI_ASSIGN_OR_RETURN(const Value value, Eval(*condition));
    if (value.IsTrue()) return ExecBlock(body);
  }
  return ExecBlock(node.otherwise);
}

absl::StatusOr<std::vector<Value>> Interpreter::LoopItems(const For& node) {
  MILI_ASSIGN_OR_RETURN(const Value iterable, Eval(*node.iterable));
  MILI_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(context_, iterable));
  if (node.condition == nullptr) return items;
  std::vector<Value> chosen;
  for (Value& item : items) {
    ScopeGuard scope(*this);
    MILI_RETURN_IF_ERROR(Assign(node.target, item));
    MILI_ASSIGN_OR_RETURN(const Value condition, Eval(*node.condition));
    if (condition.IsTrue()) chosen.push_back(std::move(item));
  }
  return chosen;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const For& node) {
  auto loop = std::make_shared<Loop>();
  MILI_ASSIGN_OR_RETURN(loop->items, LoopItems(node));
  if (loop->items.empty()) {
    ScopeGuard scope(*this);
    return ExecBlock(node.otherwise);
  }
  for (const Value& item : loop->items) MILI_RETURN_IF_ERROR(loop->extent.Hold(item));
  for (; loop->index0 < loop->items.size(); ++loop->index0) {
    ScopeGuard scope(*this);
    scopes_[scope_].variables["loop"] = Value(Value::Data(loop));
    absl::Status assigned = Assign(node.target, loop->items[loop->index0]);
    if (!assigned.ok()) return assigned;
    MILI_ASSIGN_OR_RETURN(const Flow flow, ExecBlock(node.body));
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

absl::Status Interpreter::Assign(const Target& target, const Value& value) {
  if (!target.attribute.empty()) {
    MILI_ASSIGN_OR_RETURN(const Value owner, EvalNode(NameRef{target.names[0]}));
    if (owner.ns() == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("only a namespace can be changed, ",
                                                     target.names[0], " is a ",
                                                     ToAbsl(owner.TypeName())));
    }
    Value* entry = owner.ns()->Find(target.attribute);
    if (entry != nullptr) {
      *entry = value;
    } else {
      owner.ns()->entries.emplace_back(target.attribute, value);
      // Entries are found by walking: those that come on top pay for the walk.
      return budget_.Steps(static_cast<int64_t>(owner.ns()->entries.size()));
    }
    return absl::OkStatus();
  }
  if (!target.unpacks) {
    scopes_[scope_].variables[target.names[0]] = value;
    return absl::OkStatus();
  }
  MILI_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(context_, value));
  if (items.size() != target.names.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", target.names.size(), " values to unpack, found ", items.size()));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    scopes_[scope_].variables[target.names[i]] = std::move(items[i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const Set& node) {
  MILI_ASSIGN_OR_RETURN(const Value value, Eval(*node.value));
  MILI_RETURN_IF_ERROR(Assign(node.target, value));
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const SetBlock& node) {
  Text text;
  Flow flow = Flow::kNext;
  {
    OutputGuard output(*this, &text);
    ScopeGuard scope(*this);
    MILI_ASSIGN_OR_RETURN(flow, ExecBlock(node.body));
  }
  Value value = Value::Of(std::move(text));
  for (const PostfixOp& filter : node.filters) {
    MILI_ASSIGN_OR_RETURN(value, Apply(value, filter));
  }
  MILI_RETURN_IF_ERROR(Assign(node.target, value));
  return flow;
}

absl::StatusOr<Value> Interpreter::MakeMacro(const MacroDef& definition) {
  return Value(Value::Data(std::make_shared<const Callable>(
      Callable{Callable::Macro{&definition, scope_, scopes_[scope_].serial}})));
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const MacroStmt& node) {
  MILI_ASSIGN_OR_RETURN(scopes_[scope_].variables[node.macro.name], MakeMacro(node.macro));
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const CallBlock& node) {
  const auto& postfix = std::get<Postfix>(node.call->node);
  MILI_ASSIGN_OR_RETURN(Value function, Eval(*postfix.base));
  for (size_t i = 0; i + 1 < postfix.ops.size(); ++i) {
    MILI_ASSIGN_OR_RETURN(function, Apply(function, postfix.ops[i]));
  }
  MILI_ASSIGN_OR_RETURN(Arguments arguments,
                        EvalArguments(std::get<CallOp>(postfix.ops.back().op).arguments));
  MILI_ASSIGN_OR_RETURN(Value caller, MakeMacro(node.caller));
  arguments.named.emplace_back("caller", std::move(caller));
  MILI_ASSIGN_OR_RETURN(const Value result, Call(function, arguments));
  MILI_RETURN_IF_ERROR(AppendStr(budget_, result, *out_));
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const FilterBlock& node) {
  Text text;
  Flow flow = Flow::kNext;
  {
    OutputGuard output(*this, &text);
    ScopeGuard scope(*this);
    MILI_ASSIGN_OR_RETURN(flow, ExecBlock(node.body));
  }
  Value value = Value::Of(std::move(text));
  for (const PostfixOp& filter : node.filters) {
    MILI_ASSIGN_OR_RETURN(value, Apply(value, filter));
  }
  MILI_RETURN_IF_ERROR(AppendStr(budget_, value, *out_));
  return flow;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const ScopeBlock& node) {
  std::vector<Value> values;
  for (const auto& [name, expr] : node.variables) {
    MILI_ASSIGN_OR_RETURN(Value value, Eval(*expr));
    values.push_back(std::move(value));
  }
  ScopeGuard scope(*this);
  for (size_t i = 0; i < values.size(); ++i) {
    scopes_[scope_].variables[node.variables[i].first] = std::move(values[i]);
  }
  return ExecBlock(node.body);
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecNode(const LoopControl& node) {
  return node.is_break ? Flow::kBreak : Flow::kContinue;
}

absl::StatusOr<Value> Interpreter::CallMacro(const Callable::Macro& macro,
                                             const Arguments& arguments) {
  const MacroDef& definition = *macro.definition;
  // The scope that it was defined in may be gone, if it left through a namespace.
  const bool is_alive =
      macro.scope < scopes_.size() && scopes_[macro.scope].serial == macro.scope_serial;
  ScopeGuard scope(*this, is_alive ? macro.scope : 0);
  const size_t num_parameters = definition.parameters.size();
  std::vector<const Value*> given(num_parameters, nullptr);
  if (arguments.positional.size() > num_parameters) {
    return absl::InvalidArgumentError(absl::StrCat("macro ", definition.name, " takes ",
                                                   num_parameters, " arguments, found ",
                                                   arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) given[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    size_t i = 0;
    while (i < num_parameters && definition.parameters[i] != name) ++i;
    if (i == num_parameters && name == "caller") {
      scopes_[scope_].variables[name] = value;
      continue;
    }
    if (i == num_parameters || given[i] != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("macro ", definition.name, " takes no argument ", name, " here"));
    }
    given[i] = &value;
  }
  const size_t first_default = num_parameters - definition.defaults.size();
  for (size_t i = 0; i < num_parameters; ++i) {
    Value value;
    if (given[i] != nullptr) {
      value = *given[i];
    } else if (i >= first_default) {
      MILI_ASSIGN_OR_RETURN(value, Eval(*definition.defaults[i - first_default]));
    } else {
      value = Value::MakeUndefined(
          absl::StrCat("argument ", definition.parameters[i], " was not given"));
    }
    scopes_[scope_].variables[definition.parameters[i]] = std::move(value);
  }
  Text text;
  OutputGuard output(*this, &text);
  MILI_RETURN_IF_ERROR(ExecBlock(definition.body).status());
  return Value::Of(std::move(text));
}

}  // namespace mili::router::jinja

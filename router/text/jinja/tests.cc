// The tests of builtins.h: what may follow `is`.
#include <algorithm>
#include <utility>

#include <absl/status/status.h>

#include "common/base/status_macros.h"
#include "router/text/jinja/builtins.h"
#include "router/text/jinja/strings.h"

namespace mili::router::jinja {
namespace {

using Outcome = absl::StatusOr<bool>;

absl::StatusOr<const Value*> One(const Arguments& arguments) {
  if (arguments.positional.size() != 1 || !arguments.named.empty()) {
    return absl::InvalidArgumentError("the test takes one argument");
  }
  return &arguments.positional[0];
}

absl::Status Charge(Context& context, const Value& a, const Value& b) {
  return context.budget.Steps(static_cast<int64_t>(std::min(a.extent().weight, b.extent().weight)));
}

Outcome IsEqual(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Value* other, One(arguments));
  MILI_RETURN_IF_ERROR(Charge(context, input, *other));
  return Equal(input, *other);
}

Outcome IsLess(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Value* other, One(arguments));
  MILI_RETURN_IF_ERROR(Charge(context, input, *other));
  return Less(input, *other);
}

Outcome IsGreater(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Value* other, One(arguments));
  MILI_RETURN_IF_ERROR(Charge(context, input, *other));
  return Less(*other, input);
}

template <TestFn test>
Outcome IsNot(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const bool holds, test(context, input, arguments));
  return !holds;
}

Outcome IsIn(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Value* container, One(arguments));
  return Contains(context, *container, input);
}

Outcome IsDivisible(Context&, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Value* divisor, One(arguments));
  int64_t a = 0;
  int64_t b = 0;
  if (!input.AsInt(&a) || !divisor->AsInt(&b)) {
    return absl::InvalidArgumentError("divisibleby takes integers");
  }
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  return b == -1 || a % b == 0;
}

Outcome IsOdd(Context&, const Value& input, const Arguments&) {
  int64_t value = 0;
  if (!input.AsInt(&value)) return absl::InvalidArgumentError("odd and even take integers");
  return value % 2 != 0;
}

template <Case wanted>
Outcome IsCase(Context& context, const Value& input, const Arguments&) {
  if (input.text() == nullptr) return false;
  MILI_RETURN_IF_ERROR(context.budget.Bytes(2 * input.text()->size()));
  const std::string& bytes = input.text()->bytes();
  const Case other = wanted == Case::kLower ? Case::kUpper : Case::kLower;
  return ChangeCase(*input.text(), wanted).bytes() == bytes &&
         ChangeCase(*input.text(), other).bytes() != bytes;
}

// A test of the value's kind alone.
template <bool (*holds)(const Value&)>
Outcome OfKind(Context&, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() || !arguments.named.empty()) {
    return absl::InvalidArgumentError("the test takes no arguments");
  }
  return holds(input);
}

bool Defined(const Value& v) { return !v.is_undefined(); }
bool Undef(const Value& v) { return v.is_undefined(); }
bool NoneKind(const Value& v) { return v.is_none(); }
bool Boolean(const Value& v) { return v.Is<bool>(); }
bool True(const Value& v) { return v.Is<bool>() && v.IsTrue(); }
bool False(const Value& v) { return v.Is<bool>() && !v.IsTrue(); }
bool Integer(const Value& v) { return v.Is<int64_t>(); }
bool Float(const Value& v) { return v.Is<double>(); }
bool Number(const Value& v) { return v.is_number(); }
bool String(const Value& v) { return v.text() != nullptr; }
bool Mapping(const Value& v) { return v.dict() != nullptr; }
// An undefined value can be gone through, and has a length of 0.
bool Sequence(const Value& v) {
  return v.text() != nullptr || v.list() != nullptr || v.dict() != nullptr || v.is_undefined();
}
bool CallableKind(const Value& v) { return v.callable() != nullptr; }

}  // namespace

TestFn FindTest(std::string_view name) {
  static constexpr std::pair<std::string_view, TestFn> kTests[] = {
      {"defined", OfKind<Defined>},
      {"undefined", OfKind<Undef>},
      {"none", OfKind<NoneKind>},
      {"boolean", OfKind<Boolean>},
      {"true", OfKind<True>},
      {"false", OfKind<False>},
      {"integer", OfKind<Integer>},
      {"float", OfKind<Float>},
      {"number", OfKind<Number>},
      {"string", OfKind<String>},
      {"mapping", OfKind<Mapping>},
      {"iterable", OfKind<Sequence>},
      {"sequence", OfKind<Sequence>},
      {"callable", OfKind<CallableKind>},
      {"odd", IsOdd},
      {"even", IsNot<IsOdd>},
      {"divisibleby", IsDivisible},
      {"lower", IsCase<Case::kLower>},
      {"upper", IsCase<Case::kUpper>},
      {"in", IsIn},
      {"eq", IsEqual},
      {"equalto", IsEqual},
      {"ne", IsNot<IsEqual>},
      {"lt", IsLess},
      {"lessthan", IsLess},
      {"gt", IsGreater},
      {"greaterthan", IsGreater},
      {"ge", IsNot<IsLess>},
      {"le", IsNot<IsGreater>},
  };
  for (const auto& [known, function] : kTests) {
    if (known == name) return function;
  }
  return nullptr;
}

}  // namespace mili::router::jinja

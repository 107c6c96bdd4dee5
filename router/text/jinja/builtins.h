// The words of the template language: filters, tests, methods and functions, by name. All pure but
// for what they charge to the budget.
#pragma once

#include <optional>
#include <string_view>

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "router/text/jinja/arguments.h"
#include "router/text/jinja/budget.h"
#include "router/text/jinja/value.h"

namespace mili::router::jinja {

// What a builtin may use of the render that it serves.
struct Context {
  Budget& budget;
  absl::Time now;
};

using FilterFn = absl::StatusOr<Value> (*)(Context& context, const Value& input,
                                           const Arguments& arguments);
using TestFn = absl::StatusOr<bool> (*)(Context& context, const Value& input,
                                        const Arguments& arguments);

// Null if there is none of this name.
FilterFn FindFilter(std::string_view name);
TestFn FindTest(std::string_view name);

// Whether values of the type of `self` have such a method; CallMethod may still answer
// UNIMPLEMENTED.
bool HasMethod(const Value& self, std::string_view name);
absl::StatusOr<Value> CallMethod(Context& context, const Value& self, std::string_view name,
                                 const Arguments& arguments);

std::optional<GlobalFunction> FindGlobal(std::string_view name);
// All but kNamespace, which the interpreter makes itself.
absl::StatusOr<Value> CallGlobal(Context& context, GlobalFunction function,
                                 const Arguments& arguments);

// `owner.name` and `owner[key]`, without methods. What is not there is undefined; INVALID_ARGUMENT
// where `owner` itself is undefined.
absl::StatusOr<Value> GetItem(Context& context, const Value& owner, const Value& key);
absl::StatusOr<Value> GetAttribute(Context& context, const Value& owner, std::string_view name);
absl::StatusOr<Value> GetSlice(Context& context, const Value& owner, const Value& lower,
                               const Value& upper, const Value& step);

// What `for` goes through: items of a list, keys of a dict, characters of a string, nothing of an
// undefined value. INVALID_ARGUMENT for the rest.
absl::StatusOr<std::vector<Value>> Iterate(Context& context, const Value& value);

// The operators + - * / // % **.
absl::StatusOr<Value> Compute(Context& context, std::string_view op, const Value& a,
                              const Value& b);
// Python's `item in container`.
absl::StatusOr<bool> Contains(Context& context, const Value& container, const Value& item);

// An INVALID_ARGUMENT that is the template's own (raise_exception), and so gets no line number.
absl::Status Raised(std::string_view message);
bool IsRaised(const absl::Status& status);

}  // namespace mili::router::jinja

// Filters that pick from or map over a list.
#include <algorithm>
#include <string>
#include <utility>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "router/text/jinja/filters.h"

namespace mili::router::jinja {
namespace {

using Result = absl::StatusOr<Value>;

// "a.b.0" looks into values step by step.
Result Lookup(Context& context, Value value, const std::string& path) {
  size_t at = 0;
  while (at <= path.size()) {
    const size_t dot = std::min(path.find('.', at), path.size());
    const std::string part = path.substr(at, dot - at);
    const bool is_index = !part.empty() && part.size() < 10 &&
                          part.find_first_not_of("0123456789") == std::string::npos;
    const Value key = is_index ? Value::Of(int64_t{std::stol(part)}) : Value::Of(part);
    MILI_ASSIGN_OR_RETURN(value, GetItem(context, value, key));
    at = dot + 1;
  }
  return value;
}

absl::StatusOr<const std::string*> Name(const Arguments& arguments, size_t index) {
  if (index >= arguments.positional.size() || arguments.positional[index].text() == nullptr) {
    return absl::InvalidArgumentError("the filter takes a name");
  }
  return &arguments.positional[index].text()->bytes();
}

// The arguments from `begin` on, for a test or filter that is called by name.
Arguments Rest(const Arguments& arguments, size_t begin) {
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(begin),
                         arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

Result Map(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(context, input));
  if (arguments.positional.empty()) {
    MILI_ASSIGN_OR_RETURN(const auto bound, Bind(arguments, {"attribute", "default"}));
    if (bound[0] == nullptr || bound[0]->text() == nullptr) {
      return absl::InvalidArgumentError("map takes a filter or an attribute");
    }
    for (Value& item : items) {
      MILI_ASSIGN_OR_RETURN(item, Lookup(context, item, bound[0]->text()->bytes()));
      if (item.is_undefined() && bound[1] != nullptr) item = *bound[1];
    }
    return Value::MakeList(std::move(items));
  }
  MILI_ASSIGN_OR_RETURN(const std::string* name, Name(arguments, 0));
  const FilterFn filter = FindFilter(*name);
  if (filter == nullptr) {
    return absl::UnimplementedError(absl::StrCat("the filter ", *name, " is not supported"));
  }
  const Arguments rest = Rest(arguments, 1);
  for (Value& item : items) {
    MILI_RETURN_IF_ERROR(context.budget.Steps(1));
    MILI_ASSIGN_OR_RETURN(item, filter(context, item, rest));
  }
  return Value::MakeList(std::move(items));
}

template <bool by_attribute, bool keeps>
Result Select(Context& context, const Value& input, const Arguments& arguments) {
  const size_t test_at = by_attribute ? 1 : 0;
  const std::string* attribute = nullptr;
  if (by_attribute) {
    MILI_ASSIGN_OR_RETURN(attribute, Name(arguments, 0));
  }
  TestFn test = nullptr;
  Arguments rest;
  if (arguments.positional.size() > test_at) {
    MILI_ASSIGN_OR_RETURN(const std::string* name, Name(arguments, test_at));
    test = FindTest(*name == "==" ? "eq" : *name == "!=" ? "ne" : std::string_view(*name));
    if (test == nullptr) {
      return absl::UnimplementedError(absl::StrCat("the test ", *name, " is not supported"));
    }
    rest = Rest(arguments, test_at + 1);
  }
  MILI_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(context, input));
  std::vector<Value> chosen;
  for (Value& item : items) {
    MILI_RETURN_IF_ERROR(context.budget.Steps(1));
    Value looked_at = item;
    if (by_attribute) {
      MILI_ASSIGN_OR_RETURN(looked_at, Lookup(context, item, *attribute));
    }
    bool holds = looked_at.IsTrue();
    if (test != nullptr) {
      MILI_ASSIGN_OR_RETURN(holds, test(context, looked_at, rest));
    }
    if (holds == keeps) chosen.push_back(std::move(item));
  }
  return Value::MakeList(std::move(chosen));
}

}  // namespace

FilterFn FindSelectionFilter(std::string_view name) {
  static constexpr std::pair<std::string_view, FilterFn> kFilters[] = {
      {"map", Map},
      {"select", Select<false, true>},
      {"reject", Select<false, false>},
      {"selectattr", Select<true, true>},
      {"rejectattr", Select<true, false>},
  };
  for (const auto& [known, filter] : kFilters) {
    if (known == name) return filter;
  }
  return nullptr;
}

}  // namespace mili::router::jinja

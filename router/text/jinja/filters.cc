// The filters of builtins.h that look at lists, numbers and JSON, and the table of all filters.
#include "router/text/jinja/filters.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <absl/status/status.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "router/text/jinja/builtins.h"
#include "router/text/jinja/print.h"
#include "router/text/jinja/strings.h"

namespace mili::router::jinja {
namespace {

using Result = absl::StatusOr<Value>;
using Bound = std::vector<const Value*>;

Result ToJson(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound,
                        Bind(arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = bound[0] != nullptr && bound[0]->IsTrue();
  style.sort_keys = bound[3] != nullptr && bound[3]->IsTrue();
  if (bound[1] != nullptr && !bound[1]->is_none()) {
    int64_t width = 0;
    if (bound[1]->text() != nullptr) {
      style.indent = bound[1]->text()->bytes();
    } else if (bound[1]->AsInt(&width) && width <= 256) {
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    } else {
      return absl::InvalidArgumentError("tojson takes an indent of at most 256");
    }
    style.item_separator = ",";
  }
  if (bound[2] != nullptr && !bound[2]->is_none()) {
    const List* pair = bound[2]->list();
    if (pair == nullptr || pair->items.size() != 2 || pair->items[0].text() == nullptr ||
        pair->items[1].text() == nullptr) {
      return absl::InvalidArgumentError("tojson takes two separators");
    }
    style.item_separator = pair->items[0].text()->bytes();
    style.key_separator = pair->items[1].text()->bytes();
  }
  Text json;
  MILI_RETURN_IF_ERROR(AppendJson(context.budget, input, style, json));
  return Value::Of(std::move(json));
}

Result Length(Context& context, const Value& input, const Arguments&) {
  if (input.text() != nullptr) {
    MILI_RETURN_IF_ERROR(context.budget.Steps(1 + static_cast<int64_t>(input.text()->size() / 16)));
    return Value::Of(static_cast<int64_t>(CountCharacters(input.text()->bytes())));
  }
  if (input.list() != nullptr) return Value::Of(static_cast<int64_t>(input.list()->items.size()));
  if (input.dict() != nullptr) return Value::Of(static_cast<int64_t>(input.dict()->entries.size()));
  if (input.is_undefined()) return Value::Of(int64_t{0});
  return absl::InvalidArgumentError(
      absl::StrCat("a value of type ", ToAbsl(input.TypeName()), " has no length"));
}

Result Default(Context&, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"default_value", "boolean"}));
  const bool by_truth = bound[1] != nullptr && bound[1]->IsTrue();
  if (!input.is_undefined() && (!by_truth || input.IsTrue())) return input;
  return bound[0] != nullptr ? *bound[0] : Value::Of(std::string());
}

Result ToInt(Context&, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"default", "base"}));
  if (bound[1] != nullptr) return absl::UnimplementedError("int with a base is not supported");
  int64_t integer = 0;
  double number = 0;
  if (input.AsInt(&integer)) return Value::Of(integer);
  const bool is_number =
      input.AsDouble(&number) ||
      (input.text() != nullptr && absl::SimpleAtod(input.text()->bytes(), &number));
  if (input.text() != nullptr && absl::SimpleAtoi(input.text()->bytes(), &integer)) {
    return Value::Of(integer);
  }
  if (is_number && std::abs(number) < 9.2e18) return Value::Of(static_cast<int64_t>(number));
  return bound[0] != nullptr ? *bound[0] : Value::Of(int64_t{0});
}

Result ToFloat(Context&, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"default"}));
  double number = 0;
  if (input.AsDouble(&number)) return Value::Of(number);
  if (input.text() != nullptr && absl::SimpleAtod(input.text()->bytes(), &number)) {
    return Value::Of(number);
  }
  return bound[0] != nullptr ? *bound[0] : Value::Of(0.0);
}

Result Absolute(Context& context, const Value& input, const Arguments&) {
  double number = 0;
  if (!input.AsDouble(&number)) return absl::InvalidArgumentError("abs takes a number");
  if (number >= 0) return Compute(context, "+", Value::Of(int64_t{0}), input);
  return Compute(context, "-", Value::Of(int64_t{0}), input);
}

Result ToList(Context& context, const Value& input, const Arguments&) {
  MILI_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(context, input));
  return Value::MakeList(std::move(items));
}

template <bool first>
Result End(Context& context, const Value& input, const Arguments&) {
  if (input.list() != nullptr || input.text() != nullptr) {
    return GetItem(context, input, Value::Of(int64_t{first ? 0 : -1}));
  }
  MILI_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(context, input));
  if (items.empty()) return Value::MakeUndefined("there is no item");
  return first ? items.front() : items.back();
}

Result Reverse(Context& context, const Value& input, const Arguments&) {
  if (input.text() != nullptr) {
    return GetSlice(context, input, Value(), Value(), Value::Of(int64_t{-1}));
  }
  MILI_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(context, input));
  std::reverse(items.begin(), items.end());
  return Value::MakeList(std::move(items));
}

Result Items(Context& context, const Value& input, const Arguments& arguments) {
  if (input.is_undefined()) return Value::MakeList({});
  if (input.dict() == nullptr) return absl::InvalidArgumentError("items takes a mapping");
  return CallMethod(context, input, "items", arguments);
}

// Without this the cost of Less and Equal would not be counted.
absl::Status ChargePairs(Context& context, const std::vector<Value>& items, uint64_t per_item) {
  uint64_t weight = 0;
  for (const Value& item : items) weight += item.extent().weight;
  const uint64_t steps = std::min<uint64_t>(weight, 1 << 24) * per_item;
  return context.budget.Steps(static_cast<int64_t>(std::min<uint64_t>(steps, 1ULL << 40)));
}

Result Unique(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"case_sensitive", "attribute"}));
  if (bound[1] != nullptr) {
    return absl::UnimplementedError("unique with an attribute is not supported");
  }
  const bool is_exact = bound[0] != nullptr && bound[0]->IsTrue();
  MILI_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(context, input));
  MILI_RETURN_IF_ERROR(ChargePairs(context, items, items.size()));
  std::vector<Value> keys;
  std::vector<Value> kept;
  for (const Value& item : items) {
    Value key = item;
    if (!is_exact && item.text() != nullptr) {
      MILI_RETURN_IF_ERROR(context.budget.Bytes(2 * item.text()->size()));
      key = Value::Of(ChangeCase(*item.text(), Case::kLower));
    }
    const bool is_known = std::any_of(keys.begin(), keys.end(),
                                      [&key](const Value& each) { return Equal(each, key); });
    if (is_known) continue;
    keys.push_back(std::move(key));
    kept.push_back(item);
  }
  return Value::MakeList(std::move(kept));
}

// Orders by key(item), keeping the order of equals. Strings without regard to case, as Jinja does.
absl::Status SortBy(Context& context, bool is_exact, bool is_reverse, std::vector<Value>& items,
                    const std::vector<Value>& keys) {
  std::vector<std::pair<Value, size_t>> order;
  for (size_t i = 0; i < keys.size(); ++i) {
    Value key = keys[i];
    if (!is_exact && key.text() != nullptr) {
      MILI_RETURN_IF_ERROR(context.budget.Bytes(2 * key.text()->size()));
      key = Value::Of(ChangeCase(*key.text(), Case::kLower));
    }
    order.emplace_back(std::move(key), i);
  }
  uint64_t log = 1;
  while ((uint64_t{1} << log) < items.size()) ++log;
  MILI_RETURN_IF_ERROR(ChargePairs(context, keys, 2 * log));
  // Kinds that cannot be ordered are found before the sort, which needs a true order.
  for (size_t i = 1; i < order.size(); ++i) {
    MILI_RETURN_IF_ERROR(Less(order[0].first, order[i].first).status());
  }
  absl::Status status;
  std::stable_sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    absl::StatusOr<bool> less = is_reverse ? Less(b.first, a.first) : Less(a.first, b.first);
    if (!less.ok()) status = less.status();
    return less.ok() && *less;
  });
  MILI_RETURN_IF_ERROR(status);
  std::vector<Value> sorted;
  for (const auto& [key, index] : order) sorted.push_back(items[index]);
  items = std::move(sorted);
  return absl::OkStatus();
}

Result Sort(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound,
                        Bind(arguments, {"reverse", "case_sensitive", "attribute"}));
  MILI_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(context, input));
  std::vector<Value> keys;
  for (const Value& item : items) {
    Value key = item;
    if (bound[2] != nullptr) {
      MILI_ASSIGN_OR_RETURN(key, GetItem(context, item, *bound[2]));
    }
    keys.push_back(std::move(key));
  }
  MILI_RETURN_IF_ERROR(SortBy(context, bound[1] != nullptr && bound[1]->IsTrue(),
                              bound[0] != nullptr && bound[0]->IsTrue(), items, keys));
  return Value::MakeList(std::move(items));
}

Result DictSort(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"case_sensitive", "by", "reverse"}));
  if (input.dict() == nullptr) return absl::InvalidArgumentError("dictsort takes a mapping");
  const bool by_value =
      bound[1] != nullptr && bound[1]->text() != nullptr && bound[1]->text()->bytes() == "value";
  MILI_ASSIGN_OR_RETURN(const Value pairs, CallMethod(context, input, "items", {}));
  std::vector<Value> items = pairs.list()->items;
  std::vector<Value> keys;
  for (const Value& pair : items) keys.push_back(pair.list()->items[by_value ? 1 : 0]);
  MILI_RETURN_IF_ERROR(SortBy(context, bound[0] != nullptr && bound[0]->IsTrue(),
                              bound[2] != nullptr && bound[2]->IsTrue(), items, keys));
  return Value::MakeList(std::move(items));
}

Result Sum(Context& context, const Value& input, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"attribute", "start"}));
  MILI_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(context, input));
  Value sum = bound[1] != nullptr ? *bound[1] : Value::Of(int64_t{0});
  for (const Value& item : items) {
    Value term = item;
    if (bound[0] != nullptr && !bound[0]->is_none()) {
      MILI_ASSIGN_OR_RETURN(term, GetItem(context, item, *bound[0]));
    }
    MILI_ASSIGN_OR_RETURN(sum, Compute(context, "+", sum, term));
  }
  return sum;
}

template <bool wants_least>
Result Extreme(Context& context, const Value& input, const Arguments& arguments) {
  MILI_RETURN_IF_ERROR(Bind(arguments, {}).status());
  MILI_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(context, input));
  if (items.empty()) return Value::MakeUndefined("there is no item");
  MILI_RETURN_IF_ERROR(ChargePairs(context, items, 1));
  const Value* best = &items[0];
  for (const Value& item : items) {
    MILI_ASSIGN_OR_RETURN(const bool better, wants_least ? Less(item, *best) : Less(*best, item));
    if (better) best = &item;
  }
  return *best;
}

}  // namespace

FilterFn FindFilter(std::string_view name) {
  static constexpr std::pair<std::string_view, FilterFn> kFilters[] = {
      {"tojson", ToJson}, {"length", Length},     {"count", Length},       {"default", Default},
      {"d", Default},     {"int", ToInt},         {"float", ToFloat},      {"abs", Absolute},
      {"list", ToList},   {"first", End<true>},   {"last", End<false>},    {"reverse", Reverse},
      {"items", Items},   {"unique", Unique},     {"sort", Sort},          {"dictsort", DictSort},
      {"sum", Sum},       {"min", Extreme<true>}, {"max", Extreme<false>},
  };
  for (const auto& [known, filter] : kFilters) {
    if (known == name) return filter;
  }
  const FilterFn of_text = FindTextFilter(name);
  return of_text != nullptr ? of_text : FindSelectionFilter(name);
}

}  // namespace mili::router::jinja

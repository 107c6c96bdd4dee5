// Arithmetic, membership, items, slices and iteration of builtins.h.
#include <algorithm>
#include <cmath>
#include <limits>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "router/text/jinja/builtins.h"
#include "router/text/jinja/strings.h"

namespace mili::router::jinja {
namespace {

absl::Status Undefinable(const Value& value) {
  return absl::InvalidArgumentError(value.undefined()->what);
}

absl::Status Unfit(std::string_view op, const Value& a, const Value& b) {
  if (a.is_undefined()) return Undefinable(a);
  if (b.is_undefined()) return Undefinable(b);
  return absl::InvalidArgumentError(absl::StrCat("cannot compute ", ToAbsl(a.TypeName()), " ",
                                                 ToAbsl(op), " ", ToAbsl(b.TypeName())));
}

// By reference: an argument beside it computes the result.
absl::StatusOr<Value> Checked(bool overflowed, const int64_t& result) {
  if (overflowed) return absl::InvalidArgumentError("an integer passes 64 bits");
  return Value::Of(result);
}

absl::StatusOr<Value> ComputePower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return absl::InvalidArgumentError("division by zero");
    return Value::Of(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  bool overflowed = false;
  // Past 64 steps the result is 0, 1, -1 or too large.
  if (base == 0 || base == 1 || base == -1) exponent = exponent > 2 ? 2 + exponent % 2 : exponent;
  for (int64_t i = 0; i < exponent && !overflowed; ++i) {
    overflowed = __builtin_mul_overflow(result, base, &result);
  }
  return Checked(overflowed, result);
}

absl::StatusOr<Value> ComputeInts(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+") return Checked(__builtin_add_overflow(a, b, &result), result);
  if (op == "-") return Checked(__builtin_sub_overflow(a, b, &result), result);
  if (op == "*") return Checked(__builtin_mul_overflow(a, b, &result), result);
  if (op == "**") return ComputePower(a, b);
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  if (op == "/") return Value::Of(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) return op == "%" ? Value::Of(int64_t{0}) : ComputeInts("-", 0, a);
  // Python rounds towards minus infinity.
  const int64_t remainder = a % b;
  const bool rounds = remainder != 0 && (remainder < 0) != (b < 0);
  if (op == "%") return Value::Of(rounds ? remainder + b : remainder);
  return Value::Of(rounds ? a / b - 1 : a / b);
}

absl::StatusOr<Value> ComputeDoubles(std::string_view op, double a, double b) {
  if (op == "+") return Value::Of(a + b);
  if (op == "-") return Value::Of(a - b);
  if (op == "*") return Value::Of(a * b);
  if (op == "**") return Value::Of(std::pow(a, b));
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  if (op == "/") return Value::Of(a / b);
  if (op == "//") return Value::Of(std::floor(a / b));
  const double remainder = std::fmod(a, b);
  return Value::Of(remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder);
}

absl::StatusOr<Value> Repeat(Context& context, const Value& value, int64_t times) {
  const auto count = static_cast<uint64_t>(std::max<int64_t>(times, 0));
  const bool is_text = value.text() != nullptr;
  const size_t unit = is_text ? value.text()->size() : value.list()->items.size() * sizeof(Value);
  if (unit > 0 && count > std::numeric_limits<uint32_t>::max() / unit) {
    return context.budget.Bytes(std::numeric_limits<size_t>::max());
  }
  MILI_RETURN_IF_ERROR(context.budget.Bytes(unit * count));
  if (unit == 0) return value;
  if (is_text) {
    Text text;
    for (uint64_t i = 0; i < count; ++i) text.Append(*value.text());
    return Value::Of(std::move(text));
  }
  std::vector<Value> items;
  for (uint64_t i = 0; i < count; ++i) {
    items.insert(items.end(), value.list()->items.begin(), value.list()->items.end());
  }
  return Value::MakeList(std::move(items), value.list()->is_tuple);
}

absl::StatusOr<Value> Join(Context& context, const Value& a, const Value& b) {
  if (a.text() != nullptr) {
    MILI_RETURN_IF_ERROR(context.budget.Bytes(a.text()->size() + b.text()->size()));
    Text text = *a.text();
    text.Append(*b.text());
    return Value::Of(std::move(text));
  }
  std::vector<Value> items = a.list()->items;
  items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
  MILI_RETURN_IF_ERROR(context.budget.Bytes(items.size() * sizeof(Value)));
  return Value::MakeList(std::move(items), a.list()->is_tuple);
}

absl::StatusOr<Value> LoopAttribute(const Loop& loop, std::string_view name) {
  const auto length = static_cast<int64_t>(loop.items.size());
  const auto index0 = static_cast<int64_t>(loop.index0);
  if (name == "index") return Value::Of(index0 + 1);
  if (name == "index0") return Value::Of(index0);
  if (name == "revindex") return Value::Of(length - index0);
  if (name == "revindex0") return Value::Of(length - index0 - 1);
  if (name == "first") return Value::Of(index0 == 0);
  if (name == "last") return Value::Of(index0 + 1 == length);
  if (name == "length") return Value::Of(length);
  // They count only recursive loops, which the core does not run.
  if (name == "depth") return Value::Of(int64_t{1});
  if (name == "depth0") return Value::Of(int64_t{0});
  if (name == "previtem") {
    return index0 > 0 ? loop.items[loop.index0 - 1]
                      : Value::MakeUndefined("there is no previous item");
  }
  if (name == "nextitem") {
    return index0 + 1 < length ? loop.items[loop.index0 + 1]
                               : Value::MakeUndefined("there is no next item");
  }
  return Value::MakeUndefined(absl::StrCat("'loop' has no attribute '", ToAbsl(name), "'"));
}

Value Missing(const Value& owner, std::string_view name) {
  return Value::MakeUndefined(absl::StrCat("'", ToAbsl(owner.TypeName()),
                                           " object' has no attribute '", ToAbsl(name), "'"));
}

// The items of a list, or the characters of a string.
absl::StatusOr<std::vector<Value>> Elements(Context& context, const Value& value) {
  if (value.list() != nullptr) {
    MILI_RETURN_IF_ERROR(context.budget.Bytes(value.list()->items.size() * sizeof(Value)));
    return value.list()->items;
  }
  const Text& text = *value.text();
  // Each character becomes a value with a text of its own.
  MILI_RETURN_IF_ERROR(context.budget.Bytes(text.size() * 128));
  const std::vector<size_t> starts = CharacterStarts(text.bytes());
  std::vector<Value> items;
  items.reserve(starts.size() - 1);
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    items.push_back(Value::Of(text.Part(starts[i], starts[i + 1])));
  }
  return items;
}

}  // namespace

absl::StatusOr<Value> Compute(Context& context, std::string_view op, const Value& a,
                              const Value& b) {
  int64_t int_a = 0;
  int64_t int_b = 0;
  const bool a_is_int = a.AsInt(&int_a);
  const bool b_is_int = b.AsInt(&int_b);
  if (a_is_int && b_is_int) return ComputeInts(op, int_a, int_b);
  double number_a = 0;
  double number_b = 0;
  if (a.AsDouble(&number_a) && b.AsDouble(&number_b)) {
    return ComputeDoubles(op, number_a, number_b);
  }
  const bool a_is_sequence = a.text() != nullptr || a.list() != nullptr;
  const bool b_is_sequence = b.text() != nullptr || b.list() != nullptr;
  if (op == "+" && a_is_sequence && a.TypeName() == b.TypeName()) return Join(context, a, b);
  if (op == "*" && a_is_sequence && b_is_int) return Repeat(context, a, int_b);
  if (op == "*" && b_is_sequence && a_is_int) return Repeat(context, b, int_a);
  if (op == "%" && a.text() != nullptr) {
    return absl::UnimplementedError("formatting a string with % is not supported");
  }
  return Unfit(op, a, b);
}

absl::StatusOr<bool> Contains(Context& context, const Value& container, const Value& item) {
  if (container.text() != nullptr) {
    if (item.text() == nullptr) return Unfit("in", item, container);
    MILI_RETURN_IF_ERROR(
        context.budget.Steps(1 + static_cast<int64_t>(container.text()->size() / 16)));
    return container.text()->bytes().find(item.text()->bytes()) != std::string::npos;
  }
  const uint64_t weight = std::min(container.extent().weight, kMaxValueWeight);
  MILI_RETURN_IF_ERROR(context.budget.Steps(static_cast<int64_t>(weight)));
  if (container.dict() != nullptr) return container.dict()->Find(item) != nullptr;
  if (container.is_undefined()) return false;
  if (container.list() == nullptr) return Unfit("in", item, container);
  const std::vector<Value>& items = container.list()->items;
  return std::any_of(items.begin(), items.end(),
                     [&item](const Value& each) { return Equal(each, item); });
}

absl::StatusOr<Value> GetAttribute(Context& context, const Value& owner, std::string_view name) {
  if (owner.is_undefined()) return Undefinable(owner);
  if (owner.dict() != nullptr) {
    MILI_RETURN_IF_ERROR(
        context.budget.Steps(1 + static_cast<int64_t>(owner.dict()->entries.size() / 8)));
    const Value* found = owner.dict()->Find(name);
    return found != nullptr ? *found : Missing(owner, name);
  }
  if (owner.ns() != nullptr) {
    const Value* found = owner.ns()->Find(name);
    return found != nullptr ? *found : Missing(owner, name);
  }
  if (owner.loop() != nullptr) return LoopAttribute(*owner.loop(), name);
  return Missing(owner, name);
}

absl::StatusOr<Value> GetItem(Context& context, const Value& owner, const Value& key) {
  if (owner.is_undefined()) return Undefinable(owner);
  if (owner.dict() != nullptr && key.text() == nullptr) {
    MILI_RETURN_IF_ERROR(context.budget.Steps(static_cast<int64_t>(owner.dict()->entries.size())));
    const Value* found = owner.dict()->Find(key);
    return found != nullptr ? *found : Missing(owner, "the key");
  }
  if (key.text() != nullptr) return GetAttribute(context, owner, key.text()->bytes());
  int64_t index = 0;
  if (!key.AsInt(&index) || (owner.list() == nullptr && owner.text() == nullptr)) {
    return Missing(owner, absl::StrCat("of type ", std::string(key.TypeName())));
  }
  if (owner.list() != nullptr) {
    const auto length = static_cast<int64_t>(owner.list()->items.size());
    if (index < 0) index += length;
    if (index < 0 || index >= length) return Missing(owner, absl::StrCat("item ", index));
    return owner.list()->items[static_cast<size_t>(index)];
  }
  MILI_RETURN_IF_ERROR(context.budget.Bytes(owner.text()->size()));
  const std::vector<size_t> starts = CharacterStarts(owner.text()->bytes());
  const auto length = static_cast<int64_t>(starts.size() - 1);
  if (index < 0) index += length;
  if (index < 0 || index >= length) return Missing(owner, absl::StrCat("item ", index));
  const auto at = static_cast<size_t>(index);
  return Value::Of(owner.text()->Part(starts[at], starts[at + 1]));
}

absl::StatusOr<Value> GetSlice(Context& context, const Value& owner, const Value& lower,
                               const Value& upper, const Value& step_value) {
  if (owner.is_undefined()) return Undefinable(owner);
  if (owner.list() == nullptr && owner.text() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(owner.TypeName()), " cannot be sliced"));
  }
  int64_t step = 1;
  if (!step_value.is_none() && (!step_value.AsInt(&step) || step == 0)) {
    return absl::InvalidArgumentError("the step of a slice must be an integer that is not 0");
  }
  MILI_ASSIGN_OR_RETURN(const std::vector<Value> items, Elements(context, owner));
  const auto length = static_cast<int64_t>(items.size());
  // Python's rule: ends past the sequence are moved to it.
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? length : length - 1;
  const auto bound = [&](const Value& value, int64_t otherwise, int64_t* result) {
    if (value.is_none()) {
      *result = otherwise;
      return true;
    }
    if (!value.AsInt(result)) return false;
    if (*result < 0) *result = *result < -length ? low : *result + length;
    *result = std::clamp(*result, low, high);
    return true;
  };
  int64_t begin = 0;
  int64_t end = 0;
  if (!bound(lower, step > 0 ? low : high, &begin) || !bound(upper, step > 0 ? high : low, &end)) {
    return absl::InvalidArgumentError("the ends of a slice must be integers");
  }
  std::vector<Value> taken;
  // A step past the length takes one item at most, and cannot overflow.
  step = std::clamp(step, -length - 1, length + 1);
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
    taken.push_back(items[static_cast<size_t>(i)]);
  }
  if (owner.list() != nullptr) return Value::MakeList(std::move(taken), owner.list()->is_tuple);
  Text text;
  for (const Value& character : taken) text.Append(*character.text());
  return Value::Of(std::move(text));
}

absl::StatusOr<std::vector<Value>> Iterate(Context& context, const Value& value) {
  if (value.is_undefined()) return std::vector<Value>();
  if (value.list() != nullptr || value.text() != nullptr) return Elements(context, value);
  if (value.dict() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(value.TypeName()), " has no items to go through"));
  }
  MILI_RETURN_IF_ERROR(context.budget.Bytes(value.dict()->entries.size() * sizeof(Value)));
  std::vector<Value> keys;
  for (const auto& [key, item] : value.dict()->entries) keys.push_back(key);
  return keys;
}

}  // namespace mili::router::jinja

#include "router/text/jinja/value.h"

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"

namespace mili::router::jinja {

const Value* Dict::Find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    const Text* text = name.text();
    if (text != nullptr && text->bytes() == key) return &value;
  }
  return nullptr;
}

const Value* Dict::Find(const Value& key) const {
  for (const auto& [name, value] : entries) {
    if (Equal(name, key)) return &value;
  }
  return nullptr;
}

Value* Namespace::Find(std::string_view key) {
  for (auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

absl::Status Extent::Hold(const Value& value) {
  const Extent inner = value.extent();
  depth = std::max(depth, inner.depth + 1);
  weight += inner.weight;
  if (depth > kMaxValueDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat("lists and dicts nest deeper than ", kMaxValueDepth));
  }
  if (weight > kMaxValueWeight) return absl::InvalidArgumentError("a list or dict grows too large");
  return absl::OkStatus();
}

absl::StatusOr<Value> Value::MakeList(std::vector<Value> items, bool is_tuple) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) MILI_RETURN_IF_ERROR(list->extent.Hold(item));
  list->items = std::move(items);
  list->is_tuple = is_tuple;
  return Value(Data(ListPtr(std::move(list))));
}

absl::StatusOr<Value> Value::MakeDict(std::vector<std::pair<Value, Value>> entries) {
  auto dict = std::make_shared<Dict>();
  for (auto& entry : entries) {
    Value& key = entry.first;  // no structured binding: the lambda below could not name it
    Value& value = entry.second;
    if (key.list() != nullptr || key.dict() != nullptr || key.is_undefined()) {
      return absl::InvalidArgumentError(
          absl::StrCat("a value of type ", ToAbsl(key.TypeName()), " cannot be a key"));
    }
    MILI_RETURN_IF_ERROR(dict->extent.Hold(key));
    MILI_RETURN_IF_ERROR(dict->extent.Hold(value));
    auto earlier = std::find_if(dict->entries.begin(), dict->entries.end(),
                                [&key](const auto& each) { return Equal(each.first, key); });
    if (earlier != dict->entries.end()) {
      earlier->second = std::move(value);
    } else {
      dict->entries.emplace_back(std::move(key), std::move(value));
    }
  }
  return Value(Data(DictPtr(std::move(dict))));
}

bool Value::AsInt(int64_t* value) const {
  if (Is<bool>()) {
    *value = std::get<bool>(data_) ? 1 : 0;
    return true;
  }
  if (!Is<int64_t>()) return false;
  *value = std::get<int64_t>(data_);
  return true;
}

bool Value::AsDouble(double* value) const {
  if (Is<double>()) {
    *value = std::get<double>(data_);
    return true;
  }
  int64_t integer = 0;
  if (!AsInt(&integer)) return false;
  *value = static_cast<double>(integer);
  return true;
}

bool Value::IsTrue() const {
  double number = 0;
  if (AsDouble(&number)) return number != 0;
  if (text() != nullptr) return !text()->empty();
  if (list() != nullptr) return !list()->items.empty();
  if (dict() != nullptr) return !dict()->entries.empty();
  return !is_undefined() && !is_none();
}

std::string_view Value::TypeName() const {
  static constexpr std::string_view kNames[] = {"undefined", "NoneType", "bool",    "int",
                                                "float",     "str",      "list",    "dict",
                                                "namespace", "loop",     "function"};
  if (list() != nullptr && list()->is_tuple) return "tuple";
  return kNames[data_.index()];
}

Extent Value::extent() const {
  if (text() != nullptr) return {0, 1 + text()->size() / 16};
  if (list() != nullptr) return list()->extent;
  if (dict() != nullptr) return dict()->extent;
  if (loop() != nullptr) return loop()->extent;
  if (callable() != nullptr) {
    // A method keeps its value alive, so nesting goes on through it.
    const auto* method = std::get_if<Callable::Method>(&callable()->target);
    if (method != nullptr) {
      const Extent self = method->self.extent();
      return {self.depth + 1, self.weight + 1};
    }
  }
  return {0, 1};
}

namespace {

bool EqualLists(const List& a, const List& b) {
  if (a.is_tuple != b.is_tuple || a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!Equal(a.items[i], b.items[i])) return false;
  }
  return true;
}

bool EqualDicts(const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.Find(key);
    if (other == nullptr || !Equal(value, *other)) return false;
  }
  return true;
}

}  // namespace

bool Equal(const Value& a, const Value& b) {
  int64_t int_a = 0;
  int64_t int_b = 0;
  if (a.AsInt(&int_a) && b.AsInt(&int_b)) return int_a == int_b;
  double number_a = 0;
  double number_b = 0;
  if (a.AsDouble(&number_a) && b.AsDouble(&number_b)) return number_a == number_b;
  if (a.text() != nullptr && b.text() != nullptr) return a.text()->bytes() == b.text()->bytes();
  if (a.list() != nullptr && b.list() != nullptr) return EqualLists(*a.list(), *b.list());
  if (a.dict() != nullptr && b.dict() != nullptr) return EqualDicts(*a.dict(), *b.dict());
  if (a.is_none() || a.is_undefined()) return a.TypeName() == b.TypeName();
  if (a.ns() != nullptr) return a.ns() == b.ns();
  if (a.loop() != nullptr) return a.loop() == b.loop();
  return a.callable() != nullptr && a.callable() == b.callable();
}

absl::StatusOr<bool> Less(const Value& a, const Value& b) {
  int64_t int_a = 0;
  int64_t int_b = 0;
  if (a.AsInt(&int_a) && b.AsInt(&int_b)) return int_a < int_b;
  double number_a = 0;
  double number_b = 0;
  if (a.AsDouble(&number_a) && b.AsDouble(&number_b)) return number_a < number_b;
  // The order of UTF-8 is that of the code points.
  if (a.text() != nullptr && b.text() != nullptr) return a.text()->bytes() < b.text()->bytes();
  if (a.list() != nullptr && b.list() != nullptr) {
    const std::vector<Value>& x = a.list()->items;
    const std::vector<Value>& y = b.list()->items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!Equal(x[i], y[i])) return Less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  if (a.is_undefined()) return absl::InvalidArgumentError(a.undefined()->what);
  if (b.is_undefined()) return absl::InvalidArgumentError(b.undefined()->what);
  return absl::InvalidArgumentError(
      absl::StrCat("cannot order ", ToAbsl(a.TypeName()), " and ", ToAbsl(b.TypeName())));
}

}  // namespace mili::router::jinja

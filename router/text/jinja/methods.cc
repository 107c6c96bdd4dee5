// The methods of strings and dicts of builtins.h.
#include <algorithm>
#include <utility>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "router/text/jinja/builtins.h"
#include "router/text/jinja/strings.h"

namespace mili::router::jinja {
namespace {

using Bound = std::vector<const Value*>;
using TextMethod = absl::StatusOr<Value> (*)(Context& context, const Text& self,
                                             const Arguments& arguments);

// Null if not given or none.
absl::StatusOr<const Text*> OptionalText(const Value* value) {
  if (value == nullptr || value->is_none()) return nullptr;
  if (value->text() == nullptr) return absl::InvalidArgumentError("the method takes a string");
  return value->text();
}

absl::StatusOr<const Text*> RequiredText(const Value* value) {
  MILI_ASSIGN_OR_RETURN(const Text* text, OptionalText(value));
  if (text == nullptr) return absl::InvalidArgumentError("the method takes a string");
  return text;
}

absl::StatusOr<int64_t> OptionalInt(const Value* value, int64_t otherwise) {
  if (value == nullptr) return otherwise;
  if (!value->AsInt(&otherwise)) return absl::InvalidArgumentError("the method takes an integer");
  return otherwise;
}

template <bool at_start>
absl::StatusOr<Value> HasAffix(Context&, const Text& self, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"affix"}));
  std::vector<Value> choices;
  if (bound[0] != nullptr && bound[0]->list() != nullptr && bound[0]->list()->is_tuple) {
    choices = bound[0]->list()->items;
  } else if (bound[0] != nullptr) {
    choices.push_back(*bound[0]);
  }
  for (const Value& choice : choices) {
    MILI_ASSIGN_OR_RETURN(const Text* affix, RequiredText(&choice));
    const std::string& bytes = affix->bytes();
    if (bytes.size() > self.size()) continue;
    const size_t at = at_start ? 0 : self.size() - bytes.size();
    if (self.bytes().compare(at, bytes.size(), bytes) == 0) return Value::Of(true);
  }
  if (bound[0] == nullptr) return absl::InvalidArgumentError("the method takes a string");
  return Value::Of(false);
}

template <bool left, bool right>
absl::StatusOr<Value> StripMethod(Context& context, const Text& self, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"chars"}));
  MILI_ASSIGN_OR_RETURN(const Text* set, OptionalText(bound[0]));
  // Each character looks through the set; the table of characters takes eight bytes each.
  const size_t set_size = set == nullptr ? 1 : set->size();
  MILI_RETURN_IF_ERROR(context.budget.Bytes(9 * self.size()));
  MILI_RETURN_IF_ERROR(context.budget.Steps(static_cast<int64_t>(set_size)));
  return Value::Of(Strip(self, set == nullptr ? nullptr : &set->bytes(), left, right));
}

template <bool from_right>
absl::StatusOr<Value> SplitMethod(Context& context, const Text& self, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"sep", "maxsplit"}));
  MILI_ASSIGN_OR_RETURN(const Text* separator, OptionalText(bound[0]));
  MILI_ASSIGN_OR_RETURN(const int64_t max_splits, OptionalInt(bound[1], -1));
  if (separator != nullptr && separator->empty()) {
    return absl::InvalidArgumentError("split takes a separator that is not empty");
  }
  MILI_RETURN_IF_ERROR(context.budget.Bytes(self.size()));
  std::vector<Value> parts;
  for (Text& part :
       Split(self, separator == nullptr ? nullptr : &separator->bytes(), max_splits, from_right)) {
    parts.push_back(Value::Of(std::move(part)));
  }
  MILI_RETURN_IF_ERROR(context.budget.Bytes(128 * parts.size()));
  return Value::MakeList(std::move(parts));
}

absl::StatusOr<Value> SplitLinesMethod(Context& context, const Text& self,
                                       const Arguments& arguments) {
  MILI_RETURN_IF_ERROR(Bind(arguments, {}).status());
  MILI_RETURN_IF_ERROR(context.budget.Bytes(self.size()));
  std::vector<Value> lines;
  for (Text& line : SplitLines(self)) lines.push_back(Value::Of(std::move(line)));
  MILI_RETURN_IF_ERROR(context.budget.Bytes(128 * lines.size()));
  return Value::MakeList(std::move(lines));
}

absl::StatusOr<Value> ReplaceMethod(Context& context, const Text& self,
                                    const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"old", "new", "count"}));
  MILI_ASSIGN_OR_RETURN(const Text* from, RequiredText(bound[0]));
  MILI_ASSIGN_OR_RETURN(const Text* to, RequiredText(bound[1]));
  MILI_ASSIGN_OR_RETURN(const int64_t count, OptionalInt(bound[2], -1));
  // The most that it can become, before it does.
  const size_t num_places = self.size() / std::max<size_t>(from->size(), 1) + 1;
  if (to->size() > (size_t{1} << 40) / num_places) {
    return context.budget.Bytes(~size_t{0});
  }
  size_t found = 0;
  if (to->size() > from->size()) {
    if (from->empty()) {
      found = num_places;
    } else {
      for (size_t at = self.bytes().find(from->bytes()); at != std::string::npos;
           at = self.bytes().find(from->bytes(), at + from->size())) {
        ++found;
      }
    }
  }
  MILI_RETURN_IF_ERROR(context.budget.Bytes(self.size() + found * to->size()));
  return Value::Of(Replace(self, from->bytes(), *to, count));
}

template <Case to>
absl::StatusOr<Value> CaseMethod(Context& context, const Text& self, const Arguments& arguments) {
  MILI_RETURN_IF_ERROR(Bind(arguments, {}).status());
  MILI_RETURN_IF_ERROR(context.budget.Bytes(2 * self.size()));
  return Value::Of(ChangeCase(self, to));
}

absl::StatusOr<Value> JoinMethod(Context& context, const Text& self, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"iterable"}));
  if (bound[0] == nullptr) return absl::InvalidArgumentError("join takes a list of strings");
  MILI_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(context, *bound[0]));
  Text joined;
  for (size_t i = 0; i < items.size(); ++i) {
    MILI_ASSIGN_OR_RETURN(const Text* item, RequiredText(&items[i]));
    MILI_RETURN_IF_ERROR(context.budget.Bytes(self.size() + item->size()));
    if (i > 0) joined.Append(self);
    joined.Append(*item);
  }
  return Value::Of(std::move(joined));
}

absl::StatusOr<Value> FindMethod(Context& context, const Text& self, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"sub"}));
  MILI_ASSIGN_OR_RETURN(const Text* wanted, RequiredText(bound[0]));
  MILI_RETURN_IF_ERROR(context.budget.Steps(1 + static_cast<int64_t>(self.size() / 16)));
  const size_t at = self.bytes().find(wanted->bytes());
  if (at == std::string::npos) return Value::Of(int64_t{-1});
  const std::string_view before = std::string_view(self.bytes()).substr(0, at);
  return Value::Of(static_cast<int64_t>(CountCharacters(before)));
}

absl::StatusOr<Value> CountMethod(Context& context, const Text& self, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"sub"}));
  MILI_ASSIGN_OR_RETURN(const Text* wanted, RequiredText(bound[0]));
  MILI_RETURN_IF_ERROR(context.budget.Steps(1 + static_cast<int64_t>(self.size() / 16)));
  if (wanted->empty()) {
    return Value::Of(static_cast<int64_t>(CountCharacters(self.bytes()) + 1));
  }
  int64_t count = 0;
  for (size_t at = self.bytes().find(wanted->bytes()); at != std::string::npos;
       at = self.bytes().find(wanted->bytes(), at + wanted->size())) {
    ++count;
  }
  return Value::Of(count);
}

template <bool is_prefix>
absl::StatusOr<Value> RemoveAffix(Context& context, const Text& self, const Arguments& arguments) {
  MILI_ASSIGN_OR_RETURN(const Value has, HasAffix<is_prefix>(context, self, arguments));
  MILI_RETURN_IF_ERROR(context.budget.Bytes(self.size()));
  if (!has.IsTrue()) return Value::Of(self);
  const size_t size = arguments.positional.empty() ? arguments.named[0].second.text()->size()
                                                   : arguments.positional[0].text()->size();
  return Value::Of(is_prefix ? self.Part(size, self.size()) : self.Part(0, self.size() - size));
}

absl::StatusOr<Value> IsDigitMethod(Context& context, const Text& self, const Arguments&) {
  MILI_RETURN_IF_ERROR(context.budget.Steps(1 + static_cast<int64_t>(self.size() / 16)));
  const std::string& bytes = self.bytes();
  if (std::any_of(bytes.begin(), bytes.end(), [](char c) { return (c & 0x80) != 0; })) {
    return absl::UnimplementedError("isdigit beyond ASCII is not supported");
  }
  return Value::Of(!bytes.empty() && std::all_of(bytes.begin(), bytes.end(),
                                                 [](char c) { return c >= '0' && c <= '9'; }));
}

constexpr std::pair<std::string_view, TextMethod> kTextMethods[] = {
    {"startswith", HasAffix<true>},
    {"endswith", HasAffix<false>},
    {"strip", StripMethod<true, true>},
    {"lstrip", StripMethod<true, false>},
    {"rstrip", StripMethod<false, true>},
    {"split", SplitMethod<false>},
    {"rsplit", SplitMethod<true>},
    {"splitlines", SplitLinesMethod},
    {"replace", ReplaceMethod},
    {"lower", CaseMethod<Case::kLower>},
    {"upper", CaseMethod<Case::kUpper>},
    {"title", CaseMethod<Case::kTitle>},
    {"capitalize", CaseMethod<Case::kCapitalize>},
    {"join", JoinMethod},
    {"find", FindMethod},
    {"count", CountMethod},
    {"removeprefix", RemoveAffix<true>},
    {"removesuffix", RemoveAffix<false>},
    {"isdigit", IsDigitMethod},
};

// Python has these too; a template that calls one is told so.
constexpr std::string_view kOtherTextMethods[] = {
    "casefold",   "center",   "encode",    "expandtabs", "format",  "index",
    "isalnum",    "isalpha",  "islower",   "isnumeric",  "isspace", "istitle",
    "isupper",    "ljust",    "partition", "rfind",      "rindex",  "rjust",
    "rpartition", "swapcase", "translate", "zfill"};
constexpr std::string_view kDictMethods[] = {"items", "keys",  "values",  "get",        "copy",
                                             "pop",   "clear", "popitem", "setdefault", "update"};
constexpr std::string_view kListMethods[] = {"append",  "clear",  "copy",   "count",
                                             "extend",  "index",  "insert", "pop",
                                             "reverse", "remove", "sort"};

TextMethod FindTextMethod(std::string_view name) {
  for (const auto& [known, method] : kTextMethods) {
    if (known == name) return method;
  }
  return nullptr;
}

template <typename Names>
bool Holds(const Names& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

absl::StatusOr<Value> CallDictMethod(Context& context, const Dict& self, std::string_view name,
                                     const Arguments& arguments) {
  if (name == "get") {
    MILI_ASSIGN_OR_RETURN(const Bound bound, Bind(arguments, {"key", "default"}));
    if (bound[0] == nullptr) return absl::InvalidArgumentError("get takes a key");
    MILI_RETURN_IF_ERROR(context.budget.Steps(1 + static_cast<int64_t>(self.entries.size() / 8)));
    const Value* found = self.Find(*bound[0]);
    return found != nullptr ? *found : bound[1] != nullptr ? *bound[1] : Value();
  }
  MILI_RETURN_IF_ERROR(Bind(arguments, {}).status());
  MILI_RETURN_IF_ERROR(context.budget.Bytes(128 * self.entries.size()));
  std::vector<Value> items;
  for (const auto& [key, value] : self.entries) {
    if (name == "keys") items.push_back(key);
    if (name == "values") items.push_back(value);
    if (name == "items") {
      MILI_ASSIGN_OR_RETURN(Value pair, Value::MakeList({key, value}, true));
      items.push_back(std::move(pair));
    }
  }
  return Value::MakeList(std::move(items));
}

}  // namespace

bool HasMethod(const Value& self, std::string_view name) {
  if (self.text() != nullptr) {
    return FindTextMethod(name) != nullptr || Holds(kOtherTextMethods, name);
  }
  if (self.dict() != nullptr) return Holds(kDictMethods, name);
  return self.list() != nullptr && Holds(kListMethods, name);
}

absl::StatusOr<Value> CallMethod(Context& context, const Value& self, std::string_view name,
                                 const Arguments& arguments) {
  if (self.text() != nullptr) {
    const TextMethod method = FindTextMethod(name);
    if (method != nullptr) return method(context, *self.text(), arguments);
  }
  if (self.dict() != nullptr) {
    if (name == "get" || name == "items" || name == "keys" || name == "values") {
      return CallDictMethod(context, *self.dict(), name, arguments);
    }
  }
  return absl::UnimplementedError(absl::StrCat("the method ", ToAbsl(name), " of ",
                                               ToAbsl(self.TypeName()), " is not supported"));
}

}  // namespace mili::router::jinja

// Values as text: Python's str() and repr(), and json.dumps as transformers' tojson calls it. User
// text stays marked as such. Pure functions; the budget is charged for what they write.
#pragma once

#include <optional>
#include <string>

#include <absl/status/status.h>

#include "router/text/jinja/budget.h"
#include "router/text/jinja/text.h"
#include "router/text/jinja/value.h"

namespace mili::router::jinja {

// "" of an undefined value, "None", "True", "1.0", "['a', 1]".
absl::Status AppendStr(Budget& budget, const Value& value, Text& out);
absl::Status AppendRepr(Budget& budget, const Value& value, Text& out);
absl::StatusOr<Text> ToStr(Budget& budget, const Value& value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // of one level; nothing: one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// INVALID_ARGUMENT for what JSON cannot say (undefined values, functions).
absl::Status AppendJson(Budget& budget, const Value& value, const JsonStyle& style, Text& out);

// Python's repr of a float: the shortest digits that read back the same.
std::string FloatRepr(double value);

}  // namespace mili::router::jinja

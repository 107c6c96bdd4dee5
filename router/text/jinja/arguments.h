// How calls hand their arguments to filters, tests, methods and functions.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "router/text/jinja/value.h"

namespace mili::router::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// The arguments in the order of `names`; null where one was not given. INVALID_ARGUMENT for one too
// many, one given twice or one whose name is not listed. The pointers live as long as `arguments`.
absl::StatusOr<std::vector<const Value*>> Bind(const Arguments& arguments,
                                               std::initializer_list<std::string_view> names);

}  // namespace mili::router::jinja

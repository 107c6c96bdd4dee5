// The tables of filters that builtins.h is made of, by kind. Pure functions.
#pragma once

#include <string_view>

#include "router/text/jinja/builtins.h"

namespace mili::router::jinja {

// trim, upper, replace, indent and their like: text in, text out. Null if there is none.
FilterFn FindTextFilter(std::string_view name);
// map, select, reject, selectattr, rejectattr. Null if there is none.
FilterFn FindSelectionFilter(std::string_view name);

}  // namespace mili::router::jinja

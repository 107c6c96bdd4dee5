#include "router/text/jinja/arguments.h"

#include <algorithm>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

namespace mili::router::jinja {

absl::StatusOr<std::vector<const Value*>> Bind(const Arguments& arguments,
                                               std::initializer_list<std::string_view> names) {
  std::vector<const Value*> bound(names.size(), nullptr);
  if (arguments.positional.size() > names.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected at most ", names.size(), " arguments, found ", arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      return absl::InvalidArgumentError(absl::StrCat("there is no argument ", name));
    }
    const auto index = static_cast<size_t>(found - names.begin());
    if (bound[index] != nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("the argument ", name, " is given twice"));
    }
    bound[index] = &value;
  }
  return bound;
}

}  // namespace mili::router::jinja

// What can be said of a model from its path alone.
#pragma once

#include <string>

#include <absl/status/status.h>

namespace mili {

// NOT_FOUND, INVALID_ARGUMENT or PERMISSION_DENIED with what to do about it.
absl::Status CheckModelPath(const std::string& path);

// The directory's or file's name without extension.
std::string ModelNameOf(const std::string& path);

}  // namespace mili

// Bridges between std and Abseil strings. Debian's absl::string_view is a type of its own, so the
// project's interfaces speak std::string_view and convert at each call into Abseil.
#pragma once

#include <string_view>

#include <absl/strings/string_view.h>

namespace mili {

inline absl::string_view ToAbsl(std::string_view s) { return {s.data(), s.size()}; }
inline std::string_view ToStd(absl::string_view s) { return {s.data(), s.size()}; }

}  // namespace mili

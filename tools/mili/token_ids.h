// Token ids as people write them: "1,2,3".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>
#include <absl/strings/str_join.h>

namespace mili {

// Separated by commas or spaces, with or without [ ] around. INVALID_ARGUMENT naming the part that
// is no id; also if there is none at all.
absl::StatusOr<std::vector<uint32_t>> ParseTokenIds(std::string_view text);

// "[1, 2, 3]".
template <typename Ids>
std::string FormatTokenIds(const Ids& ids) {
  return "[" + absl::StrJoin(ids, ", ") + "]";
}

}  // namespace mili

#include "tools/mili/token_ids.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>

#include "common/base/strings.h"

namespace mili {

absl::StatusOr<std::vector<uint32_t>> ParseTokenIds(std::string_view text) {
  absl::string_view rest = absl::StripAsciiWhitespace(ToAbsl(text));
  if (absl::ConsumePrefix(&rest, "[")) absl::ConsumeSuffix(&rest, "]");
  std::vector<uint32_t> ids;
  for (absl::string_view part :
       absl::StrSplit(rest, absl::ByAnyChar(", \t\n"), absl::SkipEmpty())) {
    uint32_t id = 0;
    // SimpleAtoi would take a sign.
    if (!absl::ascii_isdigit(static_cast<unsigned char>(part[0])) || !absl::SimpleAtoi(part, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", part, "\" is no token id; expected whole numbers as 1,2,3"));
    }
    ids.push_back(id);
  }
  if (ids.empty()) return absl::InvalidArgumentError("no token ids; expected them as 1,2,3");
  return ids;
}

}  // namespace mili

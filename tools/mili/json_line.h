// One line of JSON Lines, read and written fast: a string, or a list of token ids. No general JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

namespace mili {

// The text of a JSON string. Bytes that are no UTF-8 pass as they are (the tokenizer replaces them
// with U+FFFD); an escape \uD800 without its other half is U+FFFD. INVALID_ARGUMENT says what was
// found and where.
absl::StatusOr<std::string> ParseJsonString(std::string_view line);

// A JSON array of token ids; may be empty.
absl::StatusOr<std::vector<uint32_t>> ParseJsonIds(std::string_view line);

// Appends "[1, 2, 3]".
void AppendJsonIds(const std::vector<uint32_t>& ids, std::string* out);

}  // namespace mili

// A setting's value between text and its target. Pure functions; nothing is clamped or rounded.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/config/flag_table.h"

namespace mili {

// Writes `text` to the target (appends to a list). Otherwise leaves the target alone and says what
// would have been right: "expected a whole number from 0 to 65535".
std::optional<std::string> WriteValue(const FlagTable::Flag& flag, std::string_view text);

// As WriteValue, but writes nothing.
std::optional<std::string> CheckValue(const FlagTable::Flag& flag, std::string_view text);

// The value as WriteValue reads it; a list as [a, b]; nothing for an optional without a value.
std::optional<std::string> ReadValue(const FlagTable::Flag& flag);

void ClearList(const FlagTable::Target& target);
bool IsBool(const FlagTable::Target& target);
bool IsList(const FlagTable::Target& target);
// Whether two flags write to the same place.
bool SameTarget(const FlagTable::Target& a, const FlagTable::Target& b);

// The number of single-character edits (insert, delete, replace) between two names.
size_t EditDistance(std::string_view a, std::string_view b);

}  // namespace mili

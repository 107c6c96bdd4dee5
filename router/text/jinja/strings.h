// Python's view of strings: code points, whitespace, case. Bytes that are no UTF-8 count as one
// character each unit. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/jinja/text.h"

namespace mili::router::jinja {

// Where each character begins, and the end of the text.
std::vector<size_t> CharacterStarts(std::string_view text);
size_t CountCharacters(std::string_view text);

// Python's str.isspace of one character.
bool IsPythonSpace(uint32_t code_point);

// The characters of `set` cut off at the ends; null: whitespace.
Text Strip(const Text& text, const std::string* set, bool left, bool right);

enum class Case { kLower, kUpper, kTitle, kCapitalize };
// Simple case mapping, character by character.
Text ChangeCase(const Text& text, Case to);

// Python's str.split: at most `max_splits` cuts unless negative; from the right with
// `from_right`. Null separator: runs of whitespace. `separator` is not empty.
std::vector<Text> Split(const Text& text, const std::string* separator, int64_t max_splits,
                        bool from_right);

// Python's str.splitlines, without the line ends.
std::vector<Text> SplitLines(const Text& text);

// All `from` become `to`, at most `max_count` unless negative. Python's rule for an empty `from`:
// before each character and at the end.
Text Replace(const Text& text, const std::string& from, const Text& to, int64_t max_count);

}  // namespace mili::router::jinja

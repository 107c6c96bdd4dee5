// Writing JSON text by hand, where a tree of values would be slow and lose the order. Stateless;
// any thread.
#pragma once

#include <string>
#include <string_view>

namespace mili {

// Well-formed UTF-8 as Unicode table 3-7 has it: no surrogates, no overlong forms.
bool IsUtf8(std::string_view text);

// Appends UTF-8 text in quotes, escaped as RFC 8259 demands.
void AppendJsonString(std::string_view text, std::string& json);

}  // namespace mili

// Finds where the next word of a split pattern ends. Each function is one regular expression,
// alternative by alternative, in its order. Pure functions of the text from its front on.
#pragma once

#include <cstddef>
#include <string_view>

#include "common/text/unicode.h"

namespace mili::text {

// Size in bytes of the word at the front of `text`: valid UTF-8, not empty. Never 0: the patterns
// leave no character out.
size_t Gpt2Word(std::string_view text, const CharClasses& classes);

// The pattern of Qwen2 with \p{N}{1,max_digits}: 1 for Qwen, 3 for Llama 3.
size_t Qwen2Word(std::string_view text, const CharClasses& classes, int max_digits);

}  // namespace mili::text

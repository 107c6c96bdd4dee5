// Finds where the words of a split pattern end. Each function is one regular expression: its
// words in ASCII many at once (word_blocks.h), and what that leaves alternative by alternative, in
// its order. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <string_view>

#include "common/text/unicode.h"
#include "common/text/word_batch.h"

namespace mili::text {

// Cut all of `text`, valid UTF-8, into words: the patterns leave no character out.
void CutGpt2Words(std::string_view text, const CharClasses& classes, WordBatch& words);

// The pattern of Qwen2 with \p{N}{1,max_digits}: 1 for Qwen, 3 for Llama 3.
void CutQwen2Words(std::string_view text, const CharClasses& classes, int max_digits,
                   WordBatch& words);

}  // namespace mili::text

// The split patterns, read literally: each alternative in its order, character by character. Slow
// and plain; what the scanners of common/text are compared with.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/text/pretokenizer.h"

namespace mili::text {

// The words of `text`, valid UTF-8, by the pattern of kGpt2, kQwen2 or kLlama3.
std::vector<std::string> PlainWords(SplitStep pattern, std::string_view text);

}  // namespace mili::text

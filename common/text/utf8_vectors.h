// Whether text is UTF-8, 32 bytes at once, where the CPU can. Pure functions, any thread.
#pragma once

#include <string_view>

namespace mili::text {

// Whether this CPU can (AVX2).
bool HasUtf8Vectors();
// As IsValidUtf8 (utf8.h). Only where HasUtf8Vectors.
bool IsValidUtf8ByVectors(std::string_view text);

}  // namespace mili::text

// The byte-level alphabet of GPT-2: one printable character for each byte, in which vocabularies
// spell their tokens. Source of the order: Hugging Face tokenizers, pre_tokenizers/byte_level.rs.
// Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mili::text {

// The character of a byte: itself for 33-126, 161-172, 174-255; the others follow from U+0100.
uint32_t ByteLevelChar(uint8_t byte);

// Appends the bytes that a token stands for: of each character its byte, or, if one character is
// not of the alphabet, the text itself, and then says false. `spelling` is valid UTF-8.
bool AppendByteLevelDecoded(std::string_view spelling, std::string& out);
// The same to `out`, which has room for as many bytes as the spelling; moves it on behind them.
bool PutByteLevelDecoded(std::string_view spelling, char*& out);

}  // namespace mili::text

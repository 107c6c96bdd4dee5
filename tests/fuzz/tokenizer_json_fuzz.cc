// Any bytes as tokenizer.json: a refusal or a tokenizer that encodes and decodes without harm.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "common/text/tokenizer.h"
#include "common/text/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = mili::Tokenizer::FromJson(bytes);
  if (!tokenizer.ok()) {
    if (tokenizer.status().message().empty()) std::abort();
    return 0;
  }
  for (const bool parse_special : {false, true}) {
    const auto ids = (*tokenizer)->Encode(bytes, {.parse_special = parse_special});
    const std::string text = (*tokenizer)->Decode(ids, /*skip_special_tokens=*/false);
    if (!mili::text::IsValidUtf8(text)) std::abort();
    mili::IncrementalDetokenizer detokenizer(**tokenizer, /*skip_special_tokens=*/false);
    std::string pieces;
    for (const mili::TokenId id : ids) detokenizer.Push(id, pieces);
    detokenizer.Flush(pieces);
    if (pieces != text) std::abort();
  }
  return 0;
}

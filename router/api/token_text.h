// How a single token is shown: its bytes, and those as text.
#pragma once

#include <string>
#include <string_view>

#include "router/api/served_model.h"

namespace mili::router {

// Bytes of the token; empty without a tokenizer.
inline std::string_view TokenBytes(const ServedModel& model, TokenId id) {
  return model.tokenizer == nullptr ? std::string_view() : model.tokenizer->BytesOf(id);
}

// As text: a part of a character is U+FFFD.
inline std::string TokenText(const ServedModel& model, TokenId id) {
  if (model.tokenizer == nullptr) return "";
  return model.tokenizer->Decode(std::span<const TokenId>(&id, 1), /*skip_special_tokens=*/false);
}

}  // namespace mili::router

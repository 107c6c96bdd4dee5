#include "common/text/token_bytes.h"

#include "common/text/byte_level.h"

namespace mili::text {

TokenBytes::TokenBytes(const Vocabulary& vocabulary, TokenId end_id) : places_(end_id) {
  bytes_.reserve(vocabulary.size_bytes());
  for (TokenId id = 0; id < vocabulary.end_id(); ++id) {
    if (!vocabulary.Contains(id)) continue;
    const size_t begin = bytes_.size();
    const bool byte_level = AppendByteLevelDecoded(vocabulary.SpellingOf(id), bytes_);
    places_[id] = {begin, static_cast<uint32_t>(bytes_.size() - begin), byte_level};
  }
}

void TokenBytes::Set(TokenId id, std::string_view bytes) {
  places_[id] = {bytes_.size(), static_cast<uint32_t>(bytes.size()), places_[id].byte_level};
  bytes_.append(bytes);
}

}  // namespace mili::text

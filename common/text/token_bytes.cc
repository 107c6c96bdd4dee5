#include "common/text/token_bytes.h"

#include "common/text/byte_level.h"

namespace mili::text {

TokenBytes::TokenBytes(const Vocabulary& vocabulary, TokenId end_id) : places_(end_id) {
  bytes_.resize(vocabulary.size_bytes());
  char* end = bytes_.data();
  for (TokenId id = 0; id < vocabulary.end_id(); ++id) {
    if (!vocabulary.Contains(id)) continue;
    const size_t begin = end - bytes_.data();
    const bool byte_level = PutByteLevelDecoded(vocabulary.SpellingOf(id), end);
    places_[id] = {begin, static_cast<uint32_t>(end - bytes_.data() - begin), byte_level};
  }
  bytes_.resize(end - bytes_.data());
}

void TokenBytes::Set(TokenId id, std::string_view bytes) {
  places_[id] = {bytes_.size(), static_cast<uint32_t>(bytes.size()), places_[id].byte_level};
  bytes_.append(bytes);
}

}  // namespace mili::text

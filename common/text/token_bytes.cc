#include "common/text/token_bytes.h"

#include "common/text/byte_level.h"

namespace mili::text {

TokenBytes::TokenBytes(const Vocabulary& vocabulary, TokenId end_id) : places_(end_id) {
  bytes_.resize(vocabulary.size_bytes() + kSlack);
  char* end = bytes_.data();
  for (TokenId id = 0; id < vocabulary.end_id(); ++id) {
    if (!vocabulary.Contains(id)) continue;
    const char* const begin = end;
    const bool byte_level = PutByteLevelDecoded(vocabulary.SpellingOf(id), end);
    places_[id] = {static_cast<uint32_t>(begin - bytes_.data()), static_cast<uint32_t>(end - begin),
                   byte_level};
  }
  bytes_.resize(end - bytes_.data() + kSlack);
}

void TokenBytes::Set(TokenId id, std::string_view bytes) {
  const auto begin = static_cast<uint32_t>(bytes_.size());
  places_[id] = {begin, static_cast<uint32_t>(bytes.size()), places_[id].byte_level};
  bytes_.append(bytes).append(kSlack, '\0');
}

}  // namespace mili::text

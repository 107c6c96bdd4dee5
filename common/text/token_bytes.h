// The bytes that each token stands for, by id: what decoding is. Filled once, then immutable and
// readable from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/text/large_vector.h"
#include "common/text/vocabulary.h"

namespace mili::text {

class TokenBytes {
 public:
  // Of the tokens of a vocabulary; ids up to `end_id` may be Set.
  TokenBytes(const Vocabulary& vocabulary, TokenId end_id);

  void Set(TokenId id, std::string_view bytes);

  // One more than the largest id.
  TokenId end_id() const { return static_cast<TokenId>(places_.size()); }
  size_t size_bytes() const { return bytes_.size(); }
  // Behind the bytes of all tokens, which lie in one piece.
  const char* readable_end() const { return bytes_.data() + bytes_.size(); }
  // Empty if there is no such token. Valid until the next Set.
  std::string_view at(TokenId id) const {
    if (id >= places_.size()) return {};
    return {bytes_.data() + places_[id].begin, places_[id].size};
  }
  // Whether the token is spelled in the byte-level alphabet; only such a token can come of text.
  bool IsByteLevel(TokenId id) const { return places_[id].byte_level; }

 private:
  struct Place {
    uint64_t begin = 0;
    uint32_t size = 0;
    bool byte_level = false;
  };

  std::string bytes_;
  LargeVector<Place> places_;
};

}  // namespace mili::text

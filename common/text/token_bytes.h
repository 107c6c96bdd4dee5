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
  size_t size_bytes() const { return bytes_.size() - kSlack; }
  // So many bytes behind those of any token may be read as well.
  static constexpr size_t kSlack = 16;
  // Empty if there is no such token. Valid until the next Set.
  std::string_view at(TokenId id) const {
    if (id >= places_.size()) return {};
    const Place place = places_[id];
    return {bytes_.data() + place.begin, place.size};
  }
  // Whether the token is spelled in the byte-level alphabet; only such a token can come of text.
  bool IsByteLevel(TokenId id) const { return places_[id].byte_level != 0; }

 private:
  // All bytes together are fewer than 4 GiB, as those of a vocabulary and what a file can add are.
  struct Place {
    uint32_t begin = 0;
    uint32_t size : 31 = 0;
    uint32_t byte_level : 1 = 0;
  };

  std::string bytes_;
  LargeVector<Place> places_;
};

}  // namespace mili::text

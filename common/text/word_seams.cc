#include "common/text/word_seams.h"

#include <bit>

namespace mili::text {

WordSeams::WordSeams(const TokenBytes& bytes) {
  for (TokenId id = 0; id < bytes.end_id(); ++id) {
    if (!bytes.IsByteLevel(id)) continue;
    const std::string_view token = bytes.at(id);
    static_assert(TokenBytes::kSlack >= kBlockBytes);
    for (size_t i = 0; i < token.size(); i += kBlockBytes) {
      uint32_t leads = BytesWithin(token.data() + i, 0xE0, 0xEF);
      for (; leads != 0; leads &= leads - 1) AddPair(token, i + std::countr_zero(leads));
    }
  }
}

void WordSeams::AddPair(std::string_view token, size_t at) {
  const auto byte = [token](size_t i) { return static_cast<unsigned char>(token[i]); };
  if (at == 0 || at >= token.size() || (byte(at - 1) & 0xC0) != 0x80) return;
  if (at >= 3 && IsWideLead(token[at - 3]) && at + 3 <= token.size()) {
    pairs_.set(PairAt(token.data() + at));
    return;
  }
  // Behind a token that ends with the first byte any other may follow.
  for (unsigned char second = 0x80; second < 0xC0; ++second) {
    if (at + 1 == token.size() || byte(at + 1) == second) {
      parts_.set(PartOf(byte(at - 1), byte(at), second));
    }
  }
}

}  // namespace mili::text

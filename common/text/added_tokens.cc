#include "common/text/added_tokens.h"

#include <algorithm>

#include "common/text/unicode.h"
#include "common/text/utf8.h"

namespace mili::text {
namespace {

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !IsWord(DecodeBefore(text, begin).value)) &&
         (end == text.size() || !IsWord(DecodeAt(text.data() + end).value));
}

// Where the white space before `begin` starts, not before `limit`.
size_t SpaceBefore(std::string_view text, size_t begin, size_t limit) {
  while (begin > limit) {
    const CodePoint c = DecodeBefore(text, begin);
    if (!IsSpace(c.value)) break;
    begin -= c.size_bytes;
  }
  return begin;
}

size_t SpaceAfter(std::string_view text, size_t end) {
  while (end < text.size()) {
    const CodePoint c = DecodeAt(text.data() + end);
    if (!IsSpace(c.value)) break;
    end += c.size_bytes;
  }
  return end;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder() : nodes_(1), first_byte_(256, false) {}

bool AddedTokenFinder::Add(const AddedToken& token, std::string_view pattern) {
  uint32_t node = 0;
  for (const char c : pattern) {
    const auto byte = static_cast<unsigned char>(c);
    auto& next = nodes_[node].next;
    const auto edge = std::lower_bound(next.begin(), next.end(), std::pair(byte, uint32_t{0}));
    if (edge != next.end() && edge->first == byte) {
      node = edge->second;
      continue;
    }
    const auto child = static_cast<uint32_t>(nodes_.size());
    next.insert(edge, {byte, child});
    nodes_.emplace_back();
    node = child;
  }
  if (nodes_[node].token.has_value()) return false;
  nodes_[node].token = static_cast<uint32_t>(tokens_.size());
  first_byte_[static_cast<unsigned char>(pattern[0])] = true;
  tokens_.push_back({token.id, token.single_word, token.lstrip, token.rstrip, token.special});
  return true;
}

std::optional<AddedTokenFinder::Match> AddedTokenFinder::LongestAt(std::string_view text,
                                                                   size_t begin) const {
  std::optional<Match> longest;
  uint32_t node = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto& next = nodes_[node].next;
    const auto edge = std::lower_bound(next.begin(), next.end(), std::pair(byte, uint32_t{0}));
    if (edge == next.end() || edge->first != byte) break;
    node = edge->second;
    if (nodes_[node].token) longest = Match{*nodes_[node].token, i + 1 - begin};
  }
  return longest;
}

void AddedTokenFinder::Split(std::string_view text, bool parse_special,
                             absl::FunctionRef<void(std::string_view)> on_stretch,
                             absl::FunctionRef<void(TokenId)> on_token) const {
  size_t done = 0;       // all before it is handed out
  size_t space_end = 0;  // white space reaches to here from wherever a token was last stripped
  for (size_t i = 0; i < text.size() && !empty();) {
    if (!first_byte_[static_cast<unsigned char>(text[i])]) {
      ++i;
      continue;
    }
    const std::optional<Match> match = LongestAt(text, i);
    if (!match) {
      ++i;
      continue;
    }
    size_t begin = i;
    size_t end = i + match->size_bytes;
    i = end;  // also where the match does not count: it hides what lies inside
    const Rules& rules = tokens_[match->token];
    if (rules.special && !parse_special) continue;
    if (rules.single_word && !StandsAlone(text, begin, end)) continue;
    // White space that the token before has eaten is not eaten twice, yet a token may begin in it.
    if (rules.lstrip) begin = std::max(SpaceBefore(text, begin, std::min(done, begin)), done);
    if (rules.rstrip) end = space_end = SpaceAfter(text, std::max(end, space_end));
    if (done < begin) on_stretch(text.substr(done, begin - done));
    on_token(rules.id);
    done = end;
  }
  if (done != text.size()) on_stretch(text.substr(done));
}

}  // namespace mili::text

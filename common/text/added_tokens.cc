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
    const uint32_t depth = nodes_[node].depth + 1;
    next.insert(edge, {byte, child});
    nodes_.emplace_back().depth = depth;
    node = child;
  }
  if (nodes_[node].token != Node::kNoToken) return false;
  nodes_[node].token = static_cast<uint32_t>(tokens_.size());
  const auto first = static_cast<unsigned char>(pattern[0]);
  first_byte_[first] = true;
  only_first_byte_ = only_first_byte_ == -1 || only_first_byte_ == first ? first : -2;
  tokens_.push_back({token.id, token.single_word, token.lstrip, token.rstrip, token.special});
  return true;
}

uint32_t AddedTokenFinder::ChildOf(uint32_t node, unsigned char byte) const {
  const auto& next = nodes_[node].next;
  const auto edge = std::lower_bound(next.begin(), next.end(), std::pair(byte, uint32_t{0}));
  return edge != next.end() && edge->first == byte ? edge->second : 0;
}

// Breadth first, so that the shorter endings are done before.
void AddedTokenFinder::Finish() {
  std::vector<uint32_t> order = {0};
  for (size_t i = 0; i < order.size(); ++i) {
    const uint32_t node = order[i];
    for (const auto& [byte, child] : nodes_[node].next) {
      uint32_t fallback = 0;
      for (uint32_t above = node; above != 0 && fallback == 0;) {
        above = nodes_[above].fallback;
        fallback = ChildOf(above, byte);
      }
      const Node& ending = nodes_[fallback];
      nodes_[child].fallback = fallback;
      nodes_[child].next_match = ending.token != Node::kNoToken ? fallback : ending.next_match;
      order.push_back(child);
    }
  }
}

size_t AddedTokenFinder::SkipToFirstByte(std::string_view text, size_t begin) const {
  if (only_first_byte_ >= 0) {
    return std::min(text.find(static_cast<char>(only_first_byte_), begin), text.size());
  }
  while (begin < text.size() && !first_byte_[static_cast<unsigned char>(text[begin])]) ++begin;
  return begin;
}

std::optional<AddedTokenFinder::Match> AddedTokenFinder::FindFrom(std::string_view text,
                                                                  size_t begin) const {
  std::optional<Match> match;
  uint32_t node = 0;  // of the longest ending of what was read that begins a token
  for (size_t i = begin;;) {
    if (node == 0) i = SkipToFirstByte(text, i);
    if (i == text.size()) return match;
    const auto byte = static_cast<unsigned char>(text[i++]);
    uint32_t child = ChildOf(node, byte);
    while (child == 0 && node != 0) {
      node = nodes_[node].fallback;
      child = ChildOf(node, byte);
    }
    node = child;
    // What begins behind the match comes too late.
    if (match && i - nodes_[node].depth > match->begin) return match;
    const uint32_t end = nodes_[node].token != Node::kNoToken ? node : nodes_[node].next_match;
    if (end == 0) continue;
    const size_t match_begin = i - nodes_[end].depth;
    if (!match || match_begin <= match->begin) match = Match{nodes_[end].token, match_begin, i};
  }
}

void AddedTokenFinder::Split(std::string_view text, bool parse_special,
                             absl::FunctionRef<void(std::string_view)> on_stretch,
                             absl::FunctionRef<void(TokenId)> on_token) const {
  size_t done = 0;       // all before it is handed out
  size_t space_end = 0;  // white space reaches to here from wherever a token was last stripped
  for (size_t i = 0; !empty();) {
    const std::optional<Match> match = FindFrom(text, i);
    if (!match) break;
    size_t begin = match->begin;
    size_t end = i = match->end;  // also where the match does not count: it hides what lies inside
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

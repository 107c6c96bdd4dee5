#include "common/text/token_trie.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <string>

namespace mili::text {
namespace {

// The first eight bytes as a number that sorts as they do.
uint64_t HeadOf(std::string_view bytes) {
  uint64_t head = 0;
  for (size_t i = 0; i < 8; ++i) {
    head = head << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0);
  }
  return head;
}

// Tokens in the order of their bytes, which lie in that order too.
class SortedTokens {
 public:
  struct Token {
    uint32_t begin;
    uint32_t size;
    TokenId id;
  };

  SortedTokens(const TokenBytes& bytes, const LargeVector<TokenId>& tokens) {
    LargeVector<Keyed> order;
    order.reserve(tokens.size());
    for (const TokenId id : tokens) order.push_back({HeadOf(bytes.at(id)), id});
    SortByHead(order);
    // Those that begin alike are few together.
    for (auto run = order.begin(); run != order.end();) {
      const auto end = std::find_if(run, order.end(),
                                    [run](const Keyed& other) { return other.head != run->head; });
      std::sort(run, end,
                [&](const Keyed& a, const Keyed& b) { return bytes.at(a.id) < bytes.at(b.id); });
      run = end;
    }
    bytes_.reserve(bytes.size_bytes());
    tokens_.reserve(tokens.size());
    for (const Keyed& keyed : order) {
      const std::string_view token = bytes.at(keyed.id);
      tokens_.push_back(
          {static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(token.size()), keyed.id});
      bytes_.append(token);
    }
  }

  uint32_t size() const { return static_cast<uint32_t>(tokens_.size()); }
  const Token& operator[](uint32_t at) const { return tokens_[at]; }
  unsigned char ByteOf(uint32_t at, uint32_t depth) const {
    return static_cast<unsigned char>(bytes_[tokens_[at].begin + depth]);
  }

 private:
  struct Keyed {
    uint64_t head;
    TokenId id;
  };

  // By one byte after the other, the last first.
  static void SortByHead(LargeVector<Keyed>& order) {
    LargeVector<Keyed> sorted(order.size());
    for (int shift = 0; shift < 64; shift += 8) {
      const auto byte_of = [shift](const Keyed& keyed) { return keyed.head >> shift & 0xFF; };
      std::array<uint32_t, 256> places{};
      for (const Keyed& keyed : order) ++places[byte_of(keyed)];
      std::exclusive_scan(places.begin(), places.end(), places.begin(), 0u);
      for (const Keyed& keyed : order) sorted[places[byte_of(keyed)]++] = keyed;
      order.swap(sorted);
    }
  }

  std::string bytes_;
  LargeVector<Token> tokens_;
};

}  // namespace

// Places the nodes breadth first, so that the short beginnings, which are met most, lie together.
class TrieBuilder {
 public:
  TrieBuilder(const SortedTokens& tokens, TokenTrie& trie) : tokens_(tokens), trie_(trie) {
    trie.nodes_.reserve(8 * size_t{tokens.size()});
    Grow(1024);
    Take(0);
    base_used_[0] = uint64_t{1} << kLeafBase;
    LargeVector<Open> level = {{0, 0, tokens.size(), TokenTrie::kNone}};
    for (uint32_t depth = 0; !level.empty(); ++depth) {
      for (const Open& open : level) PlaceChildren(open, depth);
      level.swap(next_level_);
      next_level_.clear();
    }
    trie_.nodes_.resize(end_ + 256);
  }

 private:
  // No node with children has this base: whatever lies there, its label is not that of a child.
  static constexpr uint32_t kLeafBase = 0;
  // Of nodes but the root: bases are not negative.
  static constexpr size_t kFirstPlace = 256;

  // A node whose children are yet to be placed, and the tokens below it.
  struct Open {
    uint32_t node;
    uint32_t begin;
    uint32_t end;
    TokenId longest;  // the token at the node or nearest above
  };
  struct Child {
    unsigned char byte;
    uint32_t begin;
    uint32_t end;
  };

  size_t size() const { return trie_.nodes_.size(); }

  // The 64 bits from `at` on.
  static uint64_t BitsAt(const LargeVector<uint64_t>& bits, size_t at) {
    const int shift = static_cast<int>(at % 64);
    const uint64_t low = bits[at / 64] >> shift;
    return shift == 0 ? low : low | bits[at / 64 + 1] << (64 - shift);
  }

  void Grow(size_t size) {
    size = (size + 63) / 64 * 64;
    trie_.nodes_.resize(size);
    free_.resize(size / 64, UINT64_MAX);
    base_used_.resize(size / 64);
  }

  void Take(size_t at) { free_[at / 64] &= ~(uint64_t{1} << (at % 64)); }

  // A base for these children: one for which all their places are free, among the first that are,
  // 64 places at once; else behind all nodes. Dense enough, and linear.
  uint32_t FindBase() {
    constexpr size_t kMaxWords = 16;
    while (first_word_ < free_.size() && free_[first_word_] == 0) ++first_word_;
    const uint32_t first_byte = children_[0].byte;
    // Up to 256 places behind, and the word that holds the last of them, are looked at.
    const size_t end = std::min(first_word_ + kMaxWords, free_.size() - 5);
    for (size_t word = first_word_; word < end; ++word) {
      uint64_t fits = free_[word] & ~BitsAt(base_used_, word * 64 - first_byte);
      for (size_t i = 1; i < children_.size() && fits != 0; ++i) {
        fits &= BitsAt(free_, word * 64 + children_[i].byte - first_byte);
      }
      if (fits != 0) return static_cast<uint32_t>(word * 64 + std::countr_zero(fits) - first_byte);
    }
    ++first_word_;  // what is left there is for no one
    return Append();
  }
  uint32_t Append() {
    size_t base = std::max(end_, kFirstPlace) - children_[0].byte;
    while (base < size() && (base_used_[base / 64] >> (base % 64) & 1) != 0) ++base;
    if (base + 512 > size()) Grow(base + 512 + base / 8);
    return static_cast<uint32_t>(base);
  }

  // `depth` bytes lead to the node.
  void PlaceChildren(const Open& open, uint32_t depth) {
    children_.clear();
    for (uint32_t at = open.begin; at < open.end;) {
      const unsigned char byte = tokens_.ByteOf(at, depth);
      const uint32_t begin = at++;
      while (at < open.end && tokens_.ByteOf(at, depth) == byte) ++at;
      children_.push_back({byte, begin, at});
    }
    const uint32_t base = FindBase();
    base_used_[base / 64] |= uint64_t{1} << (base % 64);
    trie_.nodes_[open.node] |= uint64_t{base} << TokenTrie::kBaseShift;
    for (const Child& child : children_) {
      const uint32_t node = base + child.byte;
      Take(node);
      end_ = std::max<size_t>(end_, node + 1);
      // The token that ends here sorts first.
      const SortedTokens::Token& first = tokens_[child.begin];
      const bool ends = first.size == depth + 1;
      if (ends) trie_.shorter_[first.id] = open.longest;
      const uint64_t token = ends ? first.id + 1 : 0;
      trie_.nodes_[node] = token | uint64_t{child.byte + 1u} << TokenTrie::kLabelShift;
      // Without tokens below, its base stays kLeafBase.
      const uint32_t below = child.begin + (ends ? 1 : 0);
      if (below == child.end) continue;
      next_level_.push_back({node, below, child.end, ends ? first.id : open.longest});
    }
  }

  const SortedTokens& tokens_;
  TokenTrie& trie_;
  LargeVector<Open> next_level_;
  std::vector<Child> children_;
  LargeVector<uint64_t> free_;            // a bit a place
  LargeVector<uint64_t> base_used_;       // a bit a base
  size_t first_word_ = kFirstPlace / 64;  // of free_: before it nothing is free, or worth a try
  size_t end_ = 1;                        // behind the last node
};

TokenTrie::TokenTrie(const TokenBytes& bytes, const LargeVector<TokenId>& tokens) {
  shorter_.resize(bytes.end_id(), kNone);
  TrieBuilder(SortedTokens(bytes, tokens), *this);
  AddStarts();
}

void TokenTrie::AddStarts() {
  starts_.resize(1 << 16);
  const auto step = [this](uint64_t node, uint32_t byte, TokenId& longest) -> uint64_t {
    const uint64_t next = nodes_[BaseOf(node) + byte];
    if (LabelOf(next) != byte + 1) return 0;
    if (const uint32_t token = TokenOf(next)) longest = token - 1;
    return next;
  };
  for (uint32_t a = 0xE0; a <= 0xEF; ++a) {
    TokenId one = kNone;
    const uint64_t first = step(nodes_[0], a, one);
    for (uint32_t b = 0x80; b <= 0xBF; ++b) {
      TokenId two = one;
      const uint64_t second = first == 0 ? 0 : step(first, b, two);
      for (uint32_t c = 0x80; c <= 0xBF; ++c) {
        TokenId three = two;
        const uint64_t third = second == 0 ? 0 : step(second, c, three);
        starts_[StartOf(a, b, c)] = {third, three};
      }
    }
  }
}

}  // namespace mili::text

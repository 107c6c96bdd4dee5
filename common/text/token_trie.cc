#include "common/text/token_trie.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>

namespace mili::text {
namespace {

// Tokens in the order of their bytes.
class SortedTokens {
 public:
  struct Token {
    uint64_t head;  // eight of its bytes, as a number that sorts as they do; at first the first
    TokenId id;
    uint32_t size;
  };

  // Borrows `bytes`.
  SortedTokens(const TokenBytes& bytes, const LargeVector<TokenId>& tokens) : bytes_(bytes) {
    tokens_.reserve(tokens.size());
    for (const TokenId id : tokens) {
      const std::string_view token = bytes.at(id);
      tokens_.push_back({HeadOf(token, 0), id, static_cast<uint32_t>(token.size())});
    }
    SortByHead();
    // Those that begin alike are few together.
    for (auto run = tokens_.begin(); run != tokens_.end();) {
      const auto end = std::find_if(run + 1, tokens_.end(),
                                    [run](const Token& other) { return other.head != run->head; });
      if (end - run > 1) {
        std::sort(run, end,
                  [&](const Token& a, const Token& b) { return bytes.at(a.id) < bytes.at(b.id); });
      }
      run = end;
    }
  }

  uint32_t size() const { return static_cast<uint32_t>(tokens_.size()); }
  const Token& operator[](uint32_t at) const { return tokens_[at]; }
  // Of a token whose head is of the eight bytes around this depth.
  unsigned char ByteOf(uint32_t at, uint32_t depth) const {
    return static_cast<unsigned char>(tokens_[at].head >> (56 - 8 * (depth % 8)));
  }
  // Makes the heads of these tokens, which are longer, those from `depth` on.
  void SetHeads(uint32_t begin, uint32_t end, uint32_t depth) {
    for (uint32_t at = begin; at < end; ++at) {
      tokens_[at].head = HeadOf(bytes_.at(tokens_[at].id), depth);
    }
  }

 private:
  static uint64_t HeadOf(std::string_view token, size_t depth) {
    uint64_t head;
    static_assert(TokenBytes::kSlack >= sizeof(head));
    std::memcpy(&head, token.data() + depth, sizeof(head));
    if constexpr (std::endian::native == std::endian::little) head = __builtin_bswap64(head);
    const size_t size = token.size() - depth;
    return size >= 8 ? head : head & ~(UINT64_MAX >> 8 * size);
  }

  // By one byte after the other, the last first.
  void SortByHead() {
    std::array<std::array<uint32_t, 256>, 8> places{};
    const auto byte_of = [](const Token& token, int i) { return token.head >> 8 * i & 0xFF; };
    for (const Token& token : tokens_) {
      for (int i = 0; i < 8; ++i) ++places[i][byte_of(token, i)];
    }
    LargeVector<Token> sorted(tokens_.size());
    for (int i = 0; i < 8; ++i) {
      std::exclusive_scan(places[i].begin(), places[i].end(), places[i].begin(), 0u);
      for (const Token& token : tokens_) sorted[places[i][byte_of(token, i)]++] = token;
      tokens_.swap(sorted);
    }
  }

  const TokenBytes& bytes_;
  LargeVector<Token> tokens_;
};

}  // namespace

// Places the nodes breadth first, so that the short beginnings, which are met most, lie together.
class TrieBuilder {
 public:
  TrieBuilder(SortedTokens& tokens, TokenTrie& trie) : tokens_(tokens), trie_(trie) {
    trie.nodes_.reserve(8 * size_t{tokens.size()});
    Grow(1024);
    Take(0);
    base_used_[0] = uint64_t{1} << kLeafBase;
    LargeVector<Open> level;
    level.reserve(tokens.size());
    next_level_.reserve(tokens.size());
    level.push_back({0, 0, tokens.size(), TokenTrie::kNone});
    for (uint32_t depth = 0; !level.empty(); ++depth) {
      for (const Open& open : level) {
        if (depth != 0 && depth % 8 == 0) tokens_.SetHeads(open.begin, open.end, depth);
        PlaceChildren(open, depth);
      }
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
    constexpr size_t kMaxWords = 4;
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

  SortedTokens& tokens_;
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
  SortedTokens sorted(bytes, tokens);
  TrieBuilder(sorted, *this);
  AddStarts();
}

void TokenTrie::AddStarts() {
  starts_.resize(1 << 16);
  // To the child by this byte, which is the one at `depth` - 1.
  const auto step = [this](const Start& from, uint32_t byte, uint32_t depth) -> Start {
    const uint64_t node = nodes_[BaseOf(from.node) + byte];
    if (LabelOf(node) != byte + 1) return {0, from.longest};
    if (const uint32_t token = TokenOf(node)) return {node, {token - 1, depth}};
    return {node, from.longest};
  };
  for (uint32_t a = 0xE0; a <= 0xEF; ++a) {
    const Start first = step({nodes_[0], {}}, a, 1);
    for (uint32_t b = 0x80; b <= 0xBF; ++b) {
      const Start second = step(first, b, 2);
      for (uint32_t c = 0x80; c <= 0xBF; ++c) starts_[StartOf(a, b, c)] = step(second, c, 3);
    }
  }
}

}  // namespace mili::text

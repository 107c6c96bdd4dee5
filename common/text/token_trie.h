// Finds the longest token at the front of a text: a trie over the tokens' bytes, in one array
// (a double-array trie; Aoe 1989). Filled once, then immutable and readable from any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "common/base/ids.h"
#include "common/text/large_vector.h"
#include "common/text/token_bytes.h"

namespace mili::text {

class TokenTrie {
 public:
  static constexpr TokenId kNone = UINT32_MAX;

  // Of these tokens, below 2^24, with different bytes and none without. `bytes` is read during the
  // call only.
  TokenTrie(const TokenBytes& bytes, const LargeVector<TokenId>& tokens);

  struct Match {
    TokenId token = kNone;
    uint32_t size_bytes = 0;
  };
  // The longest token that `text` begins with; kNone if there is none.
  Match Longest(const char* text, size_t size) const {
    Match longest;
    uint64_t node = nodes_[0];
    size_t i = 0;
    const auto byte_at = [text](size_t at) { return static_cast<unsigned char>(text[at]); };
    if (size >= 3 && byte_at(0) >= 0xE0 && byte_at(0) <= 0xEF && byte_at(1) >= 0x80 &&
        byte_at(1) <= 0xBF && byte_at(2) >= 0x80 && byte_at(2) <= 0xBF) {
      const Start& start = starts_[StartOf(byte_at(0), byte_at(1), byte_at(2))];
      longest = start.longest;
      node = start.node;
      i = 3;
    }
    for (; i < size; ++i) {
      node = nodes_[BaseOf(node) + byte_at(i)];
      if (LabelOf(node) != byte_at(i) + 1u) break;
      if (const uint32_t token = TokenOf(node)) {
        longest = {token - 1, static_cast<uint32_t>(i + 1)};
      }
    }
    return longest;
  }

  // The longest token that is a shorter beginning of this one; kNone if there is none.
  TokenId ShorterThan(TokenId token) const { return shorter_[token]; }

 private:
  // A node: its token + 1 (25 bits; 0: none), the byte that leads to it + 1 (9 bits; 0: no node),
  // and its base (30 bits): its child by byte b is at base + b. No two nodes have one base, so that
  // the byte alone tells whose child a node is.
  static constexpr int kLabelShift = 25, kBaseShift = 34;
  static uint32_t TokenOf(uint64_t node) { return node & ((1u << kLabelShift) - 1); }
  static uint32_t LabelOf(uint64_t node) { return node >> kLabelShift & 0x1FF; }
  static uint32_t BaseOf(uint64_t node) { return static_cast<uint32_t>(node >> kBaseShift); }

  // What three bytes from U+0800 to U+FFFF lead to at once, since most text beyond ASCII begins so.
  struct Start {
    uint64_t node = 0;  // without children if there is none
    Match longest;
  };
  static size_t StartOf(unsigned char a, unsigned char b, unsigned char c) {
    return size_t{a & 0x0Fu} << 12 | size_t{b & 0x3Fu} << 6 | (c & 0x3Fu);
  }
  void AddStarts();

  friend class TrieBuilder;
  LargeVector<uint64_t> nodes_;  // [0] is the root; 256 free ones at the end
  LargeVector<TokenId> shorter_;
  LargeVector<Start> starts_;  // [65536]
};

}  // namespace mili::text

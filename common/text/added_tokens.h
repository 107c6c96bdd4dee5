// Finds added tokens in text: leftmost, then longest, with the rules of Hugging Face tokenizers
// (tokenizer/added_vocabulary.rs) for single_word, lstrip and rstrip. Immutable once made, any
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/functional/function_ref.h>

#include "common/base/ids.h"

namespace mili::text {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;  // matched against normalised text
  bool special = false;
};

class AddedTokenFinder {
 public:
  AddedTokenFinder();

  // `pattern` is what the text must contain: the content, or its normal form. Not empty, and not
  // added before: false, and nothing is done, if it was.
  bool Add(const AddedToken& token, std::string_view pattern);
  // After the last Add, before the first Split.
  void Finish();

  bool empty() const { return tokens_.empty(); }

  // Cuts `text` (valid UTF-8) into stretches and tokens, in order. Special tokens stay text unless
  // parse_special, but hide what lies inside them. A stretch is never empty.
  void Split(std::string_view text, bool parse_special,
             absl::FunctionRef<void(std::string_view stretch)> on_stretch,
             absl::FunctionRef<void(TokenId)> on_token) const;

 private:
  struct Rules {
    TokenId id;
    bool single_word, lstrip, rstrip, special;
  };
  struct Node {
    static constexpr uint32_t kNoToken = UINT32_MAX;
    uint32_t token = kNoToken;  // index in tokens_, of the token that ends here
    uint32_t depth = 0;
    // The nodes of the longest shorter endings of the text that leads here: any, one with a token.
    uint32_t fallback = 0;
    uint32_t next_match = 0;  // 0: none
    std::vector<std::pair<unsigned char, uint32_t>> next;
  };
  struct Match {
    uint32_t token;
    size_t begin;
    size_t end;
  };

  uint32_t ChildOf(uint32_t node, unsigned char byte) const;  // 0: none
  // The first token of text[begin..]; of several that begin together the longest.
  std::optional<Match> FindFrom(std::string_view text, size_t begin) const;
  // Where a token may begin at the earliest.
  size_t SkipToFirstByte(std::string_view text, size_t begin) const;

  std::vector<Rules> tokens_;
  std::vector<Node> nodes_;       // the automaton of Aho and Corasick; 0 is the root
  std::vector<bool> first_byte_;  // [256]: a token begins with it
  int only_first_byte_ = -1;  // the one byte with which all tokens begin; -1: none yet, -2: several
};

}  // namespace mili::text

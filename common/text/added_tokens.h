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
    std::optional<uint32_t> token;  // index in tokens_
    std::vector<std::pair<unsigned char, uint32_t>> next;
  };
  struct Match {
    uint32_t token;
    size_t size_bytes;
  };

  std::optional<Match> LongestAt(std::string_view text, size_t begin) const;

  std::vector<Rules> tokens_;
  std::vector<Node> nodes_;       // a trie; 0 is the root
  std::vector<bool> first_byte_;  // [256]: a token begins with it
};

}  // namespace mili::text

// FakeTokenizer: every byte is a token of its own (id = byte), and "<|end|>" is special. Text and
// ids can be read off each other in tests.
#pragma once

#include <array>
#include <string>

#include "common/text/tokenizer.h"

namespace mili {

class FakeTokenizer : public Tokenizer {
 public:
  static constexpr TokenId kEnd = 256;
  static constexpr uint32_t kVocabSize = 257;

  FakeTokenizer() {
    for (int i = 0; i < 256; ++i) bytes_[i] = std::string(1, static_cast<char>(i));
    bytes_[kEnd] = "<|end|>";
  }

  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<TokenId> ids;
    while (!text.empty()) {
      const bool special = options.parse_special && text.substr(0, 7) == bytes_[kEnd];
      ids.push_back(special ? kEnd : static_cast<unsigned char>(text.front()));
      text.remove_prefix(special ? 7 : 1);
    }
    return ids;
  }
  std::string Decode(std::span<const TokenId> ids, bool skip_special_tokens) const override {
    IncrementalDetokenizer detokenizer(*this, skip_special_tokens);
    std::string text;
    for (const TokenId id : ids) detokenizer.Push(id, text);
    detokenizer.Flush(text);
    return text;
  }
  std::string_view BytesOf(TokenId id) const override {
    return id < kVocabSize ? std::string_view(bytes_[id]) : std::string_view();
  }
  std::string SpellingOf(TokenId id) const override { return std::string(BytesOf(id)); }
  std::optional<TokenId> Find(std::string_view spelling) const override {
    for (TokenId id = 0; id < kVocabSize; ++id) {
      if (bytes_[id] == spelling) return id;
    }
    return std::nullopt;
  }
  bool IsSpecial(TokenId id) const override { return id == kEnd; }
  uint32_t vocab_size() const override { return kVocabSize; }

 private:
  std::array<std::string, kVocabSize> bytes_;
};

}  // namespace mili

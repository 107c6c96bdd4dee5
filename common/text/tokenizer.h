// Tokenizer: byte-level BPE, the same ids as Hugging Face `tokenizers` on every input.
// Immutable once made; every method is thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "common/base/ids.h"

namespace mili {

struct EncodeOptions {
  // Add what the tokenizer's post-processor adds (BOS of Llama 3).
  bool add_special_tokens = true;
  // Recognise special tokens in the text. False: control text stays text (what users wrote in a
  // conversation). Added tokens that are not special are recognised either way.
  bool parse_special = true;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // From the text of a tokenizer.json. INVALID_ARGUMENT or UNIMPLEMENTED, naming the part (model,
  // normalizer, pre_tokenizer, ...), what was found and what is supported.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view tokenizer_json);

  // Bytes that are no UTF-8 are read as U+FFFD each, maximal subparts replaced as Python's
  // bytes.decode(errors="replace") does.
  virtual std::vector<TokenId> Encode(std::string_view text,
                                      const EncodeOptions& options) const = 0;

  // How many tokens Encode would give, without making them.
  virtual size_t Count(std::string_view text, const EncodeOptions& options) const {
    return Encode(text, options).size();
  }

  // As `tokenizers` decodes: bytes that are no UTF-8 become U+FFFD. Ids out of range add nothing.
  virtual std::string Decode(std::span<const TokenId> ids, bool skip_special_tokens) const = 0;

  // The bytes a token stands for; empty if out of range.
  virtual std::string_view BytesOf(TokenId id) const = 0;
  // The token as the vocabulary spells it (byte-level characters); empty if out of range.
  virtual std::string SpellingOf(TokenId id) const = 0;
  virtual std::optional<TokenId> Find(std::string_view spelling) const = 0;
  virtual bool IsSpecial(TokenId id) const = 0;
  // One more than the largest id.
  virtual uint32_t vocab_size() const = 0;
};

// Turns tokens into text as they come. Never emits half a code point: bytes that may still become
// one are held back. What all Push and the last Flush append, joined, equals Tokenizer::Decode.
// Not thread-safe; borrows the tokenizer.
class IncrementalDetokenizer {
 public:
  IncrementalDetokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  // Appends the text that `id` completes, which may be none.
  void Push(TokenId id, std::string& text);
  // Appends what is held back, as U+FFFD.
  void Flush(std::string& text);

 private:
  const Tokenizer& tokenizer_;
  const bool skip_special_tokens_;
  std::string held_;  // at most 3 bytes: the start of a code point
};

}  // namespace mili

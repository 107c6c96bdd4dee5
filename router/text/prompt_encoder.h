// PromptEncoder: turns a rendered prompt into token ids, so that special tokens count where the
// template wrote them and stay plain text where a user did. Immutable and thread-safe; borrows the
// tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/text/tokenizer.h"
#include "router/text/chat_template.h"

namespace mili::router {

class PromptEncoder {
 public:
  // Reads the special tokens out of the vocabulary, and how each treats the text beside it.
  explicit PromptEncoder(const Tokenizer& tokenizer);

  // The ids of the whole prompt, without BOS but for one that the template wrote. Without special
  // tokens in user text these are the ids that `tokenizers` gives for prompt.text.
  std::vector<TokenId> Encode(const RenderedPrompt& prompt) const;
  // How many ids Encode would give, without making them.
  size_t Count(const RenderedPrompt& prompt) const;

 private:
  struct Special {
    std::string text;
    TokenId id;
    // It takes the whitespace before or after it along.
    bool lstrip;
    bool rstrip;
    // It counts only between characters that are no letters, digits or underscores.
    bool single_word;
  };
  struct Match {
    size_t begin;
    size_t end;
    TokenId id;
  };

  std::optional<Match> MatchAt(const RenderedPrompt& prompt, size_t position, size_t run_begin,
                               size_t next_span) const;
  // Calls `on_run` with what lies between special tokens, `on_special` with their ids, in order.
  template <typename OnRun, typename OnSpecial>
  void Split(const RenderedPrompt& prompt, const OnRun& on_run, const OnSpecial& on_special) const;

  const Tokenizer& tokenizer_;
  // By first byte, longest first.
  std::array<std::vector<Special>, 256> specials_;
};

}  // namespace mili::router

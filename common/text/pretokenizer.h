// Cuts text into the words that BPE works on. The regular expressions of the known model families
// are run by hand-written scanners, in one pass and linear time; others are refused, since no
// regular expression library at hand has the Unicode data of Hugging Face tokenizers.
// Immutable once made, any thread.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include <absl/functional/function_ref.h>

#include "common/text/unicode.h"
#include "common/text/word_batch.h"

namespace mili::text {

// One step of a pre_tokenizer; each works on every piece that the one before has made.
enum class SplitStep {
  kGpt2,              // the pattern of GPT-2
  kQwen2,             // of Qwen2 and Qwen3: one digit a word
  kLlama3,            // of Llama 3: one to three digits a word
  kIndividualDigits,  // Digits: each digit a piece of its own
  kContiguousDigits,  // Digits: each run of digits
  kPrefixSpace,       // a space in front of a piece that has none
};

// The step of a Split whose pattern is exactly this text.
std::optional<SplitStep> StepOfPattern(std::string_view pattern);

class PreTokenizer {
 public:
  explicit PreTokenizer(std::vector<SplitStep> steps) : steps_(std::move(steps)) {}

  // `text` is valid UTF-8. Words come in order, none empty; with `seams` some come in pieces.
  void Split(std::string_view text, WordBatch::OnWords on_words,
             const WordSeams* seams = nullptr) const;

  // The size of a piece at the front of `text` (valid UTF-8), of at least `min_bytes`, that can be
  // taken alone: its words and those of the rest are the words of the whole, and NFC changes
  // nothing across the border. The size of the text if there is none.
  size_t SizeOfFront(std::string_view text, size_t min_bytes) const;

 private:
  bool Has(SplitStep step) const;
  // Of a place right behind a line feed, neither at the front nor at the end.
  bool IsBorder(std::string_view text, size_t at) const;
  void Run(size_t step, std::string_view text, WordBatch& words) const;
  // A step that cuts words of a pattern, whose pieces go through the steps behind it.
  void CutWords(size_t step, std::string_view text, WordBatch& words,
                absl::FunctionRef<void(std::string_view text, WordBatch& into)> cut) const;

  std::vector<SplitStep> steps_;
  CharClasses classes_;
};

}  // namespace mili::text

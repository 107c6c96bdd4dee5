#include "common/text/pretokenizer.h"

#include <algorithm>
#include <string>

#include <absl/strings/str_cat.h>

#include "common/base/strings.h"
#include "common/text/utf8.h"
#include "common/text/word_scanner.h"

namespace mili::text {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The end of the piece at the front: one digit, a run of digits, or a run of what is none.
size_t DigitPiece(std::string_view text, bool individual) {
  const CodePoint first = DecodeAt(text.data());
  const bool digit = IsDigit(first.value);
  size_t end = first.size_bytes;
  if (digit && individual) return end;
  while (end < text.size()) {
    const CodePoint c = DecodeAt(text.data() + end);
    if (IsDigit(c.value) != digit) break;
    end += c.size_bytes;
  }
  return end;
}

}  // namespace

std::optional<SplitStep> StepOfPattern(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return SplitStep::kGpt2;
  if (pattern == kQwen2Pattern) return SplitStep::kQwen2;
  if (pattern == kLlama3Pattern) return SplitStep::kLlama3;
  return std::nullopt;
}

void PreTokenizer::Split(std::string_view text, WordBatch::OnWords on_words,
                         const WordSeams* seams) const {
  WordBatch words(on_words, seams);
  words.BeginText(text.data() + text.size());
  Run(0, text, words);
  words.Flush();
}

// No pattern has a word with a line feed and more behind it. Steps before a pattern, other than one
// that adds to the front of a text, split no more in a piece than in the whole.
size_t PreTokenizer::SizeOfFront(std::string_view text, size_t min_bytes) const {
  const auto is_pattern = [](SplitStep step) {
    return step == SplitStep::kGpt2 || step == SplitStep::kQwen2 || step == SplitStep::kLlama3;
  };
  if (steps_.empty() || !is_pattern(steps_.back()) || Has(SplitStep::kPrefixSpace)) {
    return text.size();
  }
  for (size_t at = min_bytes; (at = text.find('\n', at)) < text.size() - 1;) {
    if (IsBorder(text, ++at)) return at;
  }
  return text.size();
}

bool PreTokenizer::Has(SplitStep step) const {
  return std::find(steps_.begin(), steps_.end(), step) != steps_.end();
}

// White space behind a line feed may be of one word with it. GPT-2's pattern tells white space that
// ends the text from other, unless it is one character.
bool PreTokenizer::IsBorder(std::string_view text, size_t at) const {
  const auto is_space = [this](CodePoint c) { return classes_.Of(c.value) == CharClass::kSpace; };
  if (is_space(DecodeAt(text.data() + at))) return false;
  return !Has(SplitStep::kGpt2) || at == 1 || !is_space(DecodeBefore(text, at - 1));
}

void PreTokenizer::Run(size_t step, std::string_view text, WordBatch& words) const {
  if (text.empty()) return;
  if (step == steps_.size()) return words.Add(text.data(), text.size());
  // The last of the steps hands its words on as it finds them; one before it, each piece.
  const auto cut_digits = [&](bool individual) {
    while (!text.empty()) {
      const size_t size = DigitPiece(text, individual);
      Run(step + 1, text.substr(0, size), words);
      text.remove_prefix(size);
    }
  };
  switch (steps_[step]) {
    case SplitStep::kGpt2:
      return CutWords(step, text, words, [this](std::string_view piece, WordBatch& into) {
        CutGpt2Words(piece, classes_, into);
      });
    case SplitStep::kQwen2:
      return CutWords(step, text, words, [this](std::string_view piece, WordBatch& into) {
        CutQwen2Words(piece, classes_, 1, into);
      });
    case SplitStep::kLlama3:
      return CutWords(step, text, words, [this](std::string_view piece, WordBatch& into) {
        CutQwen2Words(piece, classes_, 3, into);
      });
    case SplitStep::kIndividualDigits:
      return cut_digits(/*individual=*/true);
    case SplitStep::kContiguousDigits:
      return cut_digits(/*individual=*/false);
    case SplitStep::kPrefixSpace: {
      if (text.front() == ' ') return Run(step + 1, text, words);
      const std::string longer = absl::StrCat(" ", ToAbsl(text));
      words.BeginText(longer.data() + longer.size());
      Run(step + 1, longer, words);
      return words.BeginText(text.data() + text.size());
    }
  }
}

void PreTokenizer::CutWords(size_t step, std::string_view text, WordBatch& words,
                            absl::FunctionRef<void(std::string_view, WordBatch&)> cut) const {
  if (step + 1 == steps_.size()) return cut(text, words);
  const auto run_rest = [&](std::span<const std::string_view> pieces, const char*) {
    for (const std::string_view piece : pieces) Run(step + 1, piece, words);
  };
  WordBatch pieces(run_rest);
  cut(text, pieces);
  pieces.Flush();
}

}  // namespace mili::text

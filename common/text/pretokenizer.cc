#include "common/text/pretokenizer.h"

#include <string>

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

void PreTokenizer::Split(std::string_view text, OnWord on_word) const { Run(0, text, on_word); }

void PreTokenizer::Run(size_t step, std::string_view text, OnWord on_word) const {
  if (text.empty()) return;
  if (step == steps_.size()) return on_word(text);
  const auto cut = [&](auto size_of_word) {
    while (!text.empty()) {
      const size_t size = size_of_word(text);
      Run(step + 1, text.substr(0, size), on_word);
      text.remove_prefix(size);
    }
  };
  switch (steps_[step]) {
    case SplitStep::kGpt2:
      return cut([this](std::string_view rest) { return Gpt2Word(rest, classes_); });
    case SplitStep::kQwen2:
      return cut([this](std::string_view rest) { return Qwen2Word(rest, classes_, 1); });
    case SplitStep::kLlama3:
      return cut([this](std::string_view rest) { return Qwen2Word(rest, classes_, 3); });
    case SplitStep::kIndividualDigits:
      return cut([](std::string_view rest) { return DigitPiece(rest, /*individual=*/true); });
    case SplitStep::kContiguousDigits:
      return cut([](std::string_view rest) { return DigitPiece(rest, /*individual=*/false); });
    case SplitStep::kPrefixSpace:
      if (text.front() == ' ') return Run(step + 1, text, on_word);
      return Run(step + 1, std::string(" ").append(text), on_word);
  }
}

}  // namespace mili::text

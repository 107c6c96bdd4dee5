#include "router/text/prompt_encoder.h"

#include <algorithm>
#include <string_view>

#include <absl/strings/str_cat.h>

#include "common/text/unicode.h"
#include "common/text/utf8.h"

namespace mili::router {
namespace {

// What lies between special tokens, whatever it looks like.
constexpr EncodeOptions kPlain = {.add_special_tokens = false, .parse_special = false};

bool IsSpaceAt(std::string_view text, size_t at) {
  return text::FirstUnit(text.substr(at)).kind == text::Utf8Kind::kValid &&
         text::IsSpace(text::DecodeAt(text.data() + at).value);
}

size_t SizeAt(std::string_view text, size_t at) {
  return text::FirstUnit(text.substr(at)).size_bytes;
}

// Where the character before `end` begins, not before `begin`.
size_t PreviousAt(std::string_view text, size_t begin, size_t end) {
  size_t at = end - 1;
  while (at > begin && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

bool IsWordAt(std::string_view text, size_t at) {
  return text::FirstUnit(text.substr(at)).kind == text::Utf8Kind::kValid &&
         text::IsWord(text::DecodeAt(text.data() + at).value);
}

}  // namespace

PromptEncoder::PromptEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  constexpr EncodeOptions kSpecial = {.add_special_tokens = false, .parse_special = true};
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.IsSpecial(id)) continue;
    Special special{tokenizer.SpellingOf(id), id, false, false, false};
    if (special.text.empty()) continue;
    // How it treats its surroundings is not said, so it is tried.
    const auto is_alone = [&](const std::string& text) {
      const std::vector<TokenId> ids = tokenizer_.Encode(text, kSpecial);
      return ids.size() == 1 && ids[0] == id;
    };
    if (!is_alone(special.text)) continue;
    special.lstrip = is_alone(absl::StrCat(" ", special.text));
    special.rstrip = is_alone(absl::StrCat(special.text, " "));
    const std::vector<TokenId> in_word =
        tokenizer_.Encode(absl::StrCat("a", special.text, "a"), kSpecial);
    special.single_word = std::find(in_word.begin(), in_word.end(), id) == in_word.end();
    specials_[static_cast<unsigned char>(special.text[0])].push_back(std::move(special));
  }
  for (std::vector<Special>& group : specials_) {
    std::stable_sort(group.begin(), group.end(), [](const Special& a, const Special& b) {
      return a.text.size() > b.text.size();
    });
  }
}

// The longest special token that stands at `position` and ends before the next byte of a user's.
std::optional<PromptEncoder::Match> PromptEncoder::MatchAt(const RenderedPrompt& prompt,
                                                           size_t position, size_t run_begin,
                                                           size_t next_span) const {
  const std::string_view text = prompt.text;
  for (const Special& special : specials_[static_cast<unsigned char>(text[position])]) {
    size_t end = position + special.text.size();
    if (end > next_span || text.substr(position, special.text.size()) != special.text) continue;
    if (special.single_word && ((position > 0 && IsWordAt(text, PreviousAt(text, 0, position))) ||
                                (end < text.size() && IsWordAt(text, end)))) {
      continue;
    }
    size_t begin = position;
    while (special.rstrip && end < text.size() && IsSpaceAt(text, end)) end += SizeAt(text, end);
    while (special.lstrip && begin > run_begin &&
           IsSpaceAt(text, PreviousAt(text, run_begin, begin))) {
      begin = PreviousAt(text, run_begin, begin);
    }
    return Match{begin, end, special.id};
  }
  return std::nullopt;
}

template <typename OnRun, typename OnSpecial>
void PromptEncoder::Split(const RenderedPrompt& prompt, const OnRun& on_run,
                          const OnSpecial& on_special) const {
  const std::string_view text = prompt.text;
  // What lies between special tokens is one piece, whoever wrote its parts.
  const auto add_run = [&](size_t begin, size_t end) {
    if (begin < end) on_run(text.substr(begin, end - begin));
  };
  size_t run_begin = 0;
  auto span = prompt.user_spans.begin();
  for (size_t at = 0; at < text.size();) {
    while (span != prompt.user_spans.end() && span->end <= at) ++span;
    const size_t next_span = span == prompt.user_spans.end() ? text.size() : span->begin;
    if (next_span <= at) {
      at = span->end;
      continue;
    }
    const std::optional<Match> match = MatchAt(prompt, at, run_begin, next_span);
    if (!match.has_value()) {
      ++at;
      continue;
    }
    add_run(run_begin, match->begin);
    on_special(match->id);
    run_begin = at = match->end;
  }
  add_run(run_begin, text.size());
}

std::vector<TokenId> PromptEncoder::Encode(const RenderedPrompt& prompt) const {
  std::vector<TokenId> ids;
  Split(
      prompt,
      [&](std::string_view run) {
        const std::vector<TokenId> more = tokenizer_.Encode(run, kPlain);
        ids.insert(ids.end(), more.begin(), more.end());
      },
      [&](TokenId id) { ids.push_back(id); });
  return ids;
}

size_t PromptEncoder::Count(const RenderedPrompt& prompt) const {
  size_t count = 0;
  Split(
      prompt, [&](std::string_view run) { count += tokenizer_.Count(run, kPlain); },
      [&](TokenId) { ++count; });
  return count;
}

}  // namespace mili::router

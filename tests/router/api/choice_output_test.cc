#include "router/api/choice_output.h"

#include <random>

#include <gtest/gtest.h>

#include "router/api/stop_matcher.h"
#include "tests/support/fake_tokenizer.h"

namespace mili::router {
namespace {

struct Seen {
  std::string text;
  std::optional<ChoiceEnd> end;
  std::vector<std::string> pieces;
};

// Feeds `text` a byte a token, in events of `per_event` tokens, and ends with kLength.
Seen Feed(const ValidSpec& spec, const std::string& text, size_t per_event = 1,
          std::optional<TokenId> stop_token = {}) {
  const FakeTokenizer tokenizer;
  ChoiceOutput output(&tokenizer, spec, 0, 0);
  Seen seen;
  const auto take = [&seen](ChoiceDelta delta) {
    seen.text += delta.text;
    seen.pieces.push_back(delta.text);
    if (delta.end.has_value()) seen.end = delta.end;
  };
  for (size_t i = 0; i < text.size() && !output.ended(); i += per_event) {
    std::vector<SampledToken> tokens;
    for (const char c : text.substr(i, per_event)) {
      tokens.push_back({.id = static_cast<unsigned char>(c)});
    }
    take(output.Push(tokens, std::nullopt));
  }
  if (output.ended()) return seen;
  std::vector<SampledToken> last;
  if (stop_token.has_value()) last.push_back({.id = *stop_token});
  take(output.Push(last, Finish{.reason = stop_token ? FinishReason::kStop : FinishReason::kLength,
                                .matched_token_id = stop_token}));
  return seen;
}

TEST(ChoiceOutputTest, TextComesAsItIs) {
  const Seen seen = Feed({}, "hello");
  EXPECT_EQ(seen.text, "hello");
  EXPECT_EQ(seen.end->reason, FinishReason::kLength);
  EXPECT_EQ(seen.end->num_output_tokens, 5u);
}

TEST(ChoiceOutputTest, StopTokenIsBilledButNotShown) {
  ValidSpec spec;
  spec.skip_special_tokens = false;
  const Seen seen = Feed(spec, "hi", 1, FakeTokenizer::kEnd);
  EXPECT_EQ(seen.text, "hi");
  EXPECT_EQ(seen.end->matched_token_id, FakeTokenizer::kEnd);
  EXPECT_EQ(seen.end->num_output_tokens, 3u);
}

TEST(ChoiceOutputTest, NeverShowsWhatMayBecomeAStopString) {
  ValidSpec spec;
  spec.stop = {"STOP"};
  const Seen seen = Feed(spec, "aSTOxSTOP!");
  EXPECT_EQ(seen.text, "aSTOx");
  EXPECT_EQ(seen.end->matched_stop, "STOP");
  EXPECT_EQ(seen.end->num_output_tokens, 9u);
  EXPECT_EQ(seen.pieces[1], "");  // the first S
  EXPECT_EQ(seen.pieces[4], "STOx");
}

TEST(ChoiceOutputTest, HeldBackTextComesWithTheEnd) {
  ValidSpec spec;
  spec.stop = {"STOP"};
  EXPECT_EQ(Feed(spec, "aSTO").text, "aSTO");
}

TEST(ChoiceOutputTest, StopStringMayStayInTheText) {
  ValidSpec spec;
  spec.stop = {"lo"};
  spec.include_stop_str_in_output = true;
  EXPECT_EQ(Feed(spec, "hello world", 4).text, "hello");
}

TEST(ChoiceOutputTest, TokensAfterAStopStringInOneEventAreNotBilled) {
  ValidSpec spec;
  spec.stop = {"b"};
  const Seen seen = Feed(spec, "abcdef", 6);
  EXPECT_EQ(seen.text, "a");
  EXPECT_EQ(seen.end->num_output_tokens, 2u);
}

TEST(ChoiceOutputTest, StopStringsCountOnlyAfterMinTokens) {
  ValidSpec spec;
  spec.stop = {"ab"};
  spec.sampling.min_tokens = 3;
  const Seen seen = Feed(spec, "ababab");
  EXPECT_EQ(seen.text, "abab");
  EXPECT_EQ(seen.end->num_output_tokens, 6u);
}

TEST(ChoiceOutputTest, CharactersAreNeverSplit) {
  const Seen seen = Feed({},
                         "a\xE2\x82\xAC"
                         "b\xF0\x9F\x98\x80\xE2\x82");
  EXPECT_EQ(seen.text,
            "a\xE2\x82\xAC"
            "b\xF0\x9F\x98\x80\xEF\xBF\xBD");
  EXPECT_EQ(seen.pieces[1], "");
  EXPECT_EQ(seen.pieces[3], "\xE2\x82\xAC");
}

TEST(ChoiceOutputTest, TokensCarryTheirOffsetInCharacters) {
  const FakeTokenizer tokenizer;
  ValidSpec spec;
  spec.sampling.num_logprobs = 0;
  ChoiceOutput output(&tokenizer, spec, 0, 0);
  const ChoiceDelta delta = output.Push({{.id = 0xC3}, {.id = 0xA9}, {.id = 'x'}}, std::nullopt);
  ASSERT_EQ(delta.tokens.size(), 3u);
  EXPECT_EQ(delta.tokens[1].text_offset, 0u);
  EXPECT_EQ(delta.tokens[2].text_offset, 1u);
}

TEST(ChoiceOutputTest, WithoutATokenizerThereAreOnlyIds) {
  ValidSpec spec;
  spec.return_token_ids = true;
  ChoiceOutput output(nullptr, spec, 0, 0);
  const ChoiceDelta delta = output.Push({{.id = 7}}, Finish{.reason = FinishReason::kLength});
  EXPECT_EQ(delta.text, "");
  EXPECT_EQ(delta.tokens[0].token.id, 7u);
  EXPECT_TRUE(delta.end.has_value());
}

// What the matcher must do, said plainly: the earliest end of any stop, the longest of those.
std::pair<std::string, std::optional<size_t>> Reference(const std::vector<std::string>& stops,
                                                        const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> best;
    for (size_t i = 0; i < stops.size(); ++i) {
      if (end < stops[i].size()) continue;
      if (text.compare(end - stops[i].size(), stops[i].size(), stops[i]) != 0) continue;
      if (!best || stops[i].size() > stops[*best].size()) best = i;
    }
    if (best) return {text.substr(0, end - stops[*best].size()), best};
  }
  return {text, std::nullopt};
}

TEST(StopMatcherTest, AgreesWithAPlainSearchHoweverTheTextIsCut) {
  std::mt19937 random(5);
  const auto word = [&random](size_t max) {
    std::string s(1 + random() % max, 'a');
    for (char& c : s) c = static_cast<char>('a' + random() % 2);
    return s;
  };
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = 0; i < 1 + random() % 3; ++i) stops.push_back(word(6));
    const std::string text = word(30);
    StopMatcher matcher(stops);
    std::string shown;
    for (size_t i = 0; i < text.size();) {
      const size_t n = 1 + random() % 4;
      shown += matcher.Push(text.substr(i, n));
      ASSERT_EQ(text.compare(0, shown.size(), shown), 0);
      i += n;
    }
    const auto matched = matcher.matched();
    if (!matched) shown += matcher.Flush();
    const auto [expected, expected_stop] = Reference(stops, text);
    ASSERT_EQ(shown, expected) << text;
    ASSERT_EQ(matched.has_value(), expected_stop.has_value());
    if (matched) ASSERT_EQ(stops[*matched], stops[*expected_stop]);
  }
}

}  // namespace
}  // namespace mili::router

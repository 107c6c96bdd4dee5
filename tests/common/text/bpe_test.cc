#include "common/text/bpe.h"

#include <algorithm>
#include <functional>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mili::text {
namespace {

using testing::ElementsAre;

// A vocabulary of `letters`, ids in order, and of what `rules` merge them to.
class Model {
 public:
  Model(std::string_view letters, const std::vector<std::pair<std::string, std::string>>& rules,
        const std::function<void(BpeSpec&)>& set = nullptr) {
    std::vector<std::string> tokens;
    for (const char c : letters) tokens.emplace_back(1, c);
    for (const auto& [left, right] : rules) {
      const std::string merged = left + right;
      if (std::find(tokens.begin(), tokens.end(), merged) == tokens.end()) tokens.push_back(merged);
    }
    for (size_t id = 0; id < tokens.size(); ++id) EXPECT_TRUE(vocabulary_.Add(tokens[id], id).ok());
    EXPECT_TRUE(vocabulary_.Finish().ok());
    BpeSpec spec;
    for (const auto& [left, right] : rules) {
      spec.merges.push_back(
          {*vocabulary_.Find(left), *vocabulary_.Find(right), *vocabulary_.Find(left + right)});
    }
    if (set) set(spec);
    rules_ = spec.merges;
    bpe_.emplace(vocabulary_, spec);
  }

  std::vector<std::string> Tokens(std::string_view word) const {
    std::vector<std::string> tokens;
    for (const TokenId id : Ids(word)) tokens.emplace_back(vocabulary_.SpellingOf(id));
    return tokens;
  }
  std::vector<TokenId> Ids(std::string_view word) const {
    std::vector<TokenId> ids = {7};  // what is there already stays
    bpe_->Encode(word, ids);
    EXPECT_EQ(ids.front(), 7u);
    ids.erase(ids.begin());
    return ids;
  }
  // The definition, step by step: the first rule that applies anywhere, where it first does.
  std::vector<TokenId> IdsByDefinition(std::string_view word) const {
    std::vector<TokenId> ids;
    for (const char c : word) ids.push_back(*vocabulary_.Find(std::string_view(&c, 1)));
    for (size_t rank = 0; rank < rules_.size();) {
      const TokenId pair[] = {rules_[rank].left, rules_[rank].right};
      const auto at = std::search(ids.begin(), ids.end(), pair, pair + 2);
      if (at == ids.end()) {
        ++rank;
        continue;
      }
      *at = rules_[rank].merged;
      ids.erase(at + 1);
      rank = 0;  // a merge may have made room for an earlier rule
    }
    return ids;
  }

 private:
  Vocabulary vocabulary_;
  std::vector<MergeRule> rules_;
  std::optional<Bpe> bpe_;
};

TEST(BpeTest, MergesTheLowestRankFirstAndTheLeftmostOnTies) {
  const Model model("abc", {{"b", "c"}, {"a", "b"}, {"a", "a"}});
  EXPECT_THAT(model.Tokens("abc"), ElementsAre("a", "bc"));
  EXPECT_THAT(model.Tokens("abab"), ElementsAre("ab", "ab"));
  EXPECT_THAT(model.Tokens("aaa"), ElementsAre("aa", "a"));
  EXPECT_THAT(model.Tokens(""), ElementsAre());
}

TEST(BpeTest, AgreesWithTheDefinitionOnWordsOfEveryLength) {
  std::mt19937 chance(11);
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<std::string> tokens = {"a", "b", "c", "d"};
    std::vector<std::pair<std::string, std::string>> rules;
    for (int i = 0; i < 40; ++i) {
      std::pair rule(tokens[chance() % tokens.size()], tokens[chance() % tokens.size()]);
      if (std::find(rules.begin(), rules.end(), rule) != rules.end()) continue;
      const std::string merged = rule.first + rule.second;
      if (std::find(tokens.begin(), tokens.end(), merged) == tokens.end()) tokens.push_back(merged);
      rules.push_back(std::move(rule));
    }
    std::shuffle(rules.begin(), rules.end(), chance);
    const Model model("abcd", rules);
    for (int size = 0; size < 120; ++size) {
      std::string word;
      for (int i = 0; i < size; ++i) word += static_cast<char>('a' + chance() % 4);
      ASSERT_EQ(model.Ids(word), model.IdsByDefinition(word)) << word;
    }
  }
}

TEST(BpeTest, TakesAWordThatIsATokenWholeIfMergesAreIgnored) {
  const std::vector<std::pair<std::string, std::string>> rules = {
      {"b", "c"}, {"a", "b"}, {"ab", "c"}};
  EXPECT_THAT(Model("abc", rules).Tokens("abc"), ElementsAre("a", "bc"));
  const Model whole("abc", rules, [](BpeSpec& s) { s.ignore_merges = true; });
  EXPECT_THAT(whole.Tokens("abc"), ElementsAre("abc"));
  EXPECT_THAT(whole.Tokens("abca"), ElementsAre("a", "bc", "a"));
}

TEST(BpeTest, DropsBytesThatTheVocabularyLacksAndMergesAcrossThem) {
  const Model model("ab", {{"a", "b"}});
  EXPECT_THAT(model.Tokens("a?b"), ElementsAre("ab"));
  EXPECT_THAT(model.Tokens("??"), ElementsAre());
}

TEST(BpeTest, PutsTheUnknownTokenForMissingBytesOneEachOrFused) {
  const Model each("ab", {}, [](BpeSpec& s) { s.unknown = 1; });
  EXPECT_THAT(each.Ids("a??a"), ElementsAre(0u, 1u, 1u, 0u));
  const Model fused("ab", {}, [](BpeSpec& s) {
    s.unknown = 1;
    s.fuse_unknown = true;
  });
  EXPECT_THAT(fused.Ids("??a??"), ElementsAre(1u, 0u, 1u));
}

TEST(BpeTest, EncodesAWordOfAMillionBytesWithoutQuadraticTime) {
  const Model model("ab", {{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}, {"a", "b"}});
  EXPECT_EQ(model.Ids(std::string(1'000'000, 'a')).size(), 125'000u);
}

}  // namespace
}  // namespace mili::text

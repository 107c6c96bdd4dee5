#include "common/text/bpe.h"

#include <algorithm>
#include <functional>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/text/byte_level.h"
#include "common/text/utf8.h"

namespace mili::text {
namespace {

using testing::ElementsAre;

// A vocabulary of `letters`, ids in order, and of what `rules` merge them to.
class Model {
 public:
  Model(std::string_view letters, const std::vector<std::pair<std::string, std::string>>& rules,
        const std::function<void(BpeSpec&)>& set = nullptr, bool every_byte = false) {
    std::vector<std::string> tokens;
    for (const char c : letters) tokens.emplace_back(1, c);
    for (int byte = 0; byte < 256 && every_byte; ++byte) {
      if (letters.find(static_cast<char>(byte)) != letters.npos) continue;
      tokens.emplace_back();
      AppendCodePoint(ByteLevelChar(static_cast<uint8_t>(byte)), tokens.back());
    }
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
    bpe_.emplace(vocabulary_, TokenBytes(vocabulary_, vocabulary_.end_id()), spec);
  }

  std::vector<std::string> Tokens(std::string_view word) const {
    std::vector<std::string> tokens;
    for (const TokenId id : Ids(word)) tokens.emplace_back(vocabulary_.SpellingOf(id));
    return tokens;
  }
  std::vector<TokenId> Ids(std::string_view word) const {
    std::vector<TokenId> ids(word.size() + Bpe::kSlack);
    ids.resize(bpe_->Encode({&word, 1}, word.data() + word.size(), ids.data()));
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
  LargeVector<MergeRule> rules_;
  std::optional<Bpe> bpe_;
};

TEST(BpeTest, MergesTheLowestRankFirstAndTheLeftmostOnTies) {
  const Model model("abc", {{"b", "c"}, {"a", "b"}, {"a", "a"}});
  EXPECT_THAT(model.Tokens("abc"), ElementsAre("a", "bc"));
  EXPECT_THAT(model.Tokens("abab"), ElementsAre("ab", "ab"));
  EXPECT_THAT(model.Tokens("aaa"), ElementsAre("aa", "a"));
}

// Lists of merges as training makes them, in which each token is made before it is used, and the
// same shuffled; of vocabularies with every byte, which are searched, and without.
class RandomMergesTest : public testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(RandomMergesTest, AgreeWithTheDefinitionOnWordsOfEveryLength) {
  const auto [shuffled, every_byte] = GetParam();
  std::mt19937 chance(11);
  for (int trial = 0; trial < 60; ++trial) {
    const size_t num_letters = 2 + trial % 3;
    std::vector<std::string> tokens = {"a", "b", "c", "d"};
    tokens.resize(num_letters);
    std::vector<std::pair<std::string, std::string>> rules;
    for (int i = 0; i < 40; ++i) {
      std::pair rule(tokens[chance() % tokens.size()], tokens[chance() % tokens.size()]);
      if (std::find(rules.begin(), rules.end(), rule) != rules.end()) continue;
      const std::string merged = rule.first + rule.second;
      const bool is_new = std::find(tokens.begin(), tokens.end(), merged) == tokens.end();
      if (is_new) tokens.push_back(merged);
      // Sometimes a second way to a token.
      if (is_new || shuffled || trial % 2 == 0) rules.push_back(std::move(rule));
    }
    if (shuffled) std::shuffle(rules.begin(), rules.end(), chance);
    const Model model(std::string_view("abcd").substr(0, num_letters), rules, nullptr, every_byte);
    for (int size = 1; size < 120; ++size) {
      std::string word;
      for (int i = 0; i < size; ++i) word += static_cast<char>('a' + chance() % num_letters);
      ASSERT_EQ(model.Ids(word), model.IdsByDefinition(word)) << word;
      ASSERT_EQ(model.Ids(word), model.IdsByDefinition(word)) << word << " the second time";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RandomMergesTest, testing::Combine(testing::Bool(), testing::Bool()));

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

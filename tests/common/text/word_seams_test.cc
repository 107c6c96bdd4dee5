#include "common/text/word_seams.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/text/bpe.h"
#include "common/text/byte_level.h"
#include "common/text/utf8.h"
#include "common/text/word_batch.h"

namespace mili::text {
namespace {

using testing::ElementsAre;

using Bytes = std::string;
using Rules = std::vector<std::pair<Bytes, Bytes>>;

std::string Spelled(std::string_view bytes) {
  std::string spelling;
  for (const char c : bytes) AppendCodePoint(ByteLevelChar(static_cast<uint8_t>(c)), spelling);
  return spelling;
}

// A vocabulary of every byte, and of what `rules` merge them to.
class Model {
 public:
  explicit Model(const Rules& rules) {
    TokenId end = 0;
    const auto add = [&](std::string_view bytes) {
      if (vocabulary_.Add(Spelled(bytes), end).ok()) ++end;
    };
    std::vector<Bytes> merged;
    for (int byte = 0; byte < 256; ++byte) add(Bytes(1, static_cast<char>(byte)));
    for (const auto& [left, right] : rules) merged.push_back(left + right);
    std::sort(merged.begin(), merged.end());
    merged.erase(std::unique(merged.begin(), merged.end()), merged.end());
    for (const Bytes& token : merged) add(token);
    EXPECT_TRUE(vocabulary_.Finish().ok());
    BpeSpec spec;
    const auto id = [&](std::string_view bytes) { return *vocabulary_.Find(Spelled(bytes)); };
    for (const auto& [left, right] : rules) {
      spec.merges.push_back({id(left), id(right), id(left + right)});
    }
    bpe_.emplace(vocabulary_, TokenBytes(vocabulary_, vocabulary_.end_id()), spec);
  }

  std::vector<std::string> Pieces(std::string_view word, const char* readable_end) const {
    std::vector<std::string> pieces;
    const auto on_words = [&](std::span<const std::string_view> words, const char*) {
      pieces.insert(pieces.end(), words.begin(), words.end());
    };
    WordBatch batch(on_words, bpe_->seams());
    batch.BeginText(readable_end);
    batch.Add(word.data(), word.size());
    batch.Flush();
    return pieces;
  }
  std::vector<std::string> Pieces(std::string_view word) const {
    return Pieces(word, word.data() + word.size());
  }

  std::vector<TokenId> Ids(std::string_view word) const {
    std::vector<TokenId> ids(word.size() + Bpe::kSlack);
    ids.resize(bpe_->Encode({&word, 1}, word.data() + word.size(), ids.data()));
    return ids;
  }

 private:
  Vocabulary vocabulary_;
  std::optional<Bpe> bpe_;
};

TEST(WordSeamsTest, LieBetweenCharactersThatNoTokenHoldsSideBySide) {
  const Model model({{"\xE4", "\xB8"}, {"\xE4\xB8", "\x80"}, {"\xE4\xB8", "\x81"}, {"一", "丁"}});
  EXPECT_THAT(model.Pieces("一丁"), ElementsAre("一丁"));
  EXPECT_THAT(model.Pieces("丁一"), ElementsAre("丁", "一"));
  EXPECT_THAT(model.Pieces("一丁一丁丁"), ElementsAre("一丁", "一丁", "丁"));
  EXPECT_THAT(model.Pieces("(é一 一"), ElementsAre("(é一 一"));
}

TEST(WordSeamsTest, LieNotWhereATokenHoldsPartsOfBothCharacters) {
  // 一 is E4 B8 80, 七 is E4 B8 83, 中 is E4 B8 AD, 乀 is E4 B9 80, あ is E3 81 82.
  const Model last_and_first(Rules{{"\x80", "\xE4"}});
  EXPECT_THAT(last_and_first.Pieces("一中乀七中"), ElementsAre("一中", "乀七", "中"));
  const Model last_and_two({{"\xE4", "\xB8"}, {"\x80", "\xE4\xB8"}});
  EXPECT_THAT(last_and_two.Pieces("一中一乀"), ElementsAre("一中", "一", "乀"));
  const Model two_and_all(
      {{"\xE3", "\x81"}, {"\xE3\x81", "\x82"}, {"\xB8", "\x80"}, {"\xB8\x80", "あ"}});
  EXPECT_THAT(two_and_all.Pieces("一あ中あ"), ElementsAre("一あ", "中", "あ"));
  const Model all_and_first({{"\xE3", "\x81"}, {"\xE3\x81", "\x82"}, {"あ", "\xE4"}});
  EXPECT_THAT(all_and_first.Pieces("あ中中あ"), ElementsAre("あ中", "中", "あ"));
}

// No rule at all, so that there is a seam between any two.
TEST(WordSeamsTest, AreFoundAtEveryPlaceOfALongWordAndNearTheEndOfTheText) {
  const Model model(Rules{});
  std::string text;
  std::vector<std::string> characters;
  for (uint32_t i = 0; i < 150; ++i) {
    characters.emplace_back();
    AppendCodePoint(0x4E00 + 77 * i, characters.back());
    text += characters.back();
  }
  for (size_t count = 1; count <= characters.size(); ++count) {
    const std::vector<std::string> front(characters.begin(), characters.begin() + count);
    ASSERT_EQ(model.Pieces(text.substr(0, 3 * count)), front) << count;
    const std::string_view word = std::string_view(text).substr(0, 3 * count);
    ASSERT_EQ(model.Pieces(word, text.data() + text.size()), front) << count;
  }
}

// Rules as training makes them, each from two neighbours somewhere in a text of few characters,
// many of them across the border of two.
Rules RandomRules(std::mt19937& chance, const std::vector<std::string>& characters) {
  std::vector<Bytes> text;
  for (int i = 0; i < 300; ++i) {
    for (const char c : characters[chance() % characters.size()]) text.emplace_back(1, c);
  }
  Rules rules;
  for (int i = 0; i < 30; ++i) {
    const size_t at = chance() % (text.size() - 1);
    const auto rule = rules.emplace_back(text[at], text[at + 1]);
    std::vector<Bytes> merged;
    for (size_t j = 0; j < text.size(); ++j) {
      merged.push_back(text[j]);
      if (j + 1 < text.size() && text[j] == rule.first && text[j + 1] == rule.second) {
        merged.back() += text[++j];
      }
    }
    text = merged;
  }
  return rules;
}

TEST(WordSeamsTest, CutAWordIntoPiecesWithItsTokens) {
  const std::vector<std::string> characters = {"一", "丁", "乀", "幀", "あ",
                                               "가", "अ",  "a",  "é",  "🙂"};
  std::mt19937 chance(3);
  size_t num_words = 0;
  size_t num_pieces = 0;
  for (int trial = 0; trial < 100; ++trial) {
    const Model model(RandomRules(chance, characters));
    for (int i = 0; i < 100; ++i) {
      std::string word;
      for (int size = 1 + chance() % 60; size > 0; --size) {
        word += characters[chance() % characters.size()];
      }
      std::vector<TokenId> ids;
      const std::vector<std::string> pieces = model.Pieces(word);
      for (const std::string& piece : pieces) {
        const std::vector<TokenId> of_piece = model.Ids(piece);
        ids.insert(ids.end(), of_piece.begin(), of_piece.end());
      }
      ASSERT_EQ(ids, model.Ids(word)) << word;
      ++num_words;
      num_pieces += pieces.size();
    }
  }
  EXPECT_GT(num_pieces, 4 * num_words);
}

}  // namespace
}  // namespace mili::text

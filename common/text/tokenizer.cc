#include "common/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/text/added_tokens.h"
#include "common/text/bpe.h"
#include "common/text/byte_level.h"
#include "common/text/nfc.h"
#include "common/text/pretokenizer.h"
#include "common/text/tokenizer_json.h"
#include "common/text/utf8.h"
#include "common/text/vocabulary.h"

namespace mili {
namespace text {
namespace {

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(TokenizerSpec spec)
      : vocabulary_(std::move(spec.vocabulary)),
        bpe_(*vocabulary_, spec.bpe),
        pre_tokenizer_(std::move(spec.steps)),
        prefix_(std::move(spec.prefix)),
        suffix_(std::move(spec.suffix)) {
    if (spec.nfc) nfc_.emplace();
  }

  absl::Status AddTokens(std::vector<AddedToken> tokens);

  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const override;
  std::string Decode(std::span<const TokenId> ids, bool skip_special_tokens) const override;

  std::string_view BytesOf(TokenId id) const override {
    return id < bytes_.size() ? std::string_view(bytes_[id]) : std::string_view();
  }
  std::string SpellingOf(TokenId id) const override;
  std::optional<TokenId> Find(std::string_view spelling) const override;
  bool IsSpecial(TokenId id) const override { return id < special_.size() && special_[id]; }
  uint32_t vocab_size() const override { return static_cast<uint32_t>(bytes_.size()); }

 private:
  // Text between added tokens that match as they stand.
  void EncodeStretch(std::string_view text, bool parse_special, std::vector<TokenId>& out) const;

  std::unique_ptr<Vocabulary> vocabulary_;
  Bpe bpe_;
  PreTokenizer pre_tokenizer_;
  std::optional<Nfc> nfc_;
  AddedTokenFinder as_they_stand_;
  AddedTokenFinder normalized_;
  std::vector<TokenId> prefix_;
  std::vector<TokenId> suffix_;
  absl::flat_hash_map<std::string, TokenId> added_ids_;
  absl::flat_hash_map<TokenId, std::string> added_contents_;
  // By id, added tokens too.
  std::vector<std::string> bytes_;
  std::vector<bool> special_;
};

absl::Status BpeTokenizer::AddTokens(std::vector<AddedToken> tokens) {
  TokenId end = vocabulary_->end_id();
  for (const AddedToken& token : tokens) end = std::max(end, token.id + 1);
  bytes_.resize(end);
  special_.resize(end, false);
  for (TokenId id = 0; id < vocabulary_->end_id(); ++id) {
    bytes_[id] = ByteLevelDecode(vocabulary_->SpellingOf(id));
  }
  absl::flat_hash_set<std::string> specials;
  for (const AddedToken& token : tokens) {
    if (token.special) specials.insert(token.content);
  }
  for (AddedToken& token : tokens) {
    const bool normalize = token.normalized && nfc_;
    const std::string pattern = normalize ? nfc_->Normalize(token.content) : token.content;
    AddedTokenFinder& finder = token.normalized ? normalized_ : as_they_stand_;
    if (!finder.Add(token, pattern)) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: added_tokens has \"",
                                                     absl::CHexEscape(pattern),
                                                     "\" twice once normalised"));
    }
    // tokenizers decodes what the text contained, and tells special tokens by that.
    bytes_[token.id] = ByteLevelDecode(pattern);
    special_[token.id] = specials.contains(pattern);
    added_ids_.emplace(token.content, token.id);
    added_contents_.emplace(token.id, std::move(token.content));
  }
  return absl::OkStatus();
}

std::vector<TokenId> BpeTokenizer::Encode(std::string_view text,
                                          const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  std::string repaired;
  if (!IsValidUtf8(text)) {
    AppendLossy(text, repaired);
    text = repaired;
  }
  if (options.add_special_tokens) ids.insert(ids.end(), prefix_.begin(), prefix_.end());
  as_they_stand_.Split(
      text, options.parse_special,
      [&](std::string_view stretch) { EncodeStretch(stretch, options.parse_special, ids); },
      [&](TokenId id) { ids.push_back(id); });
  if (options.add_special_tokens) ids.insert(ids.end(), suffix_.begin(), suffix_.end());
  return ids;
}

void BpeTokenizer::EncodeStretch(std::string_view text, bool parse_special,
                                 std::vector<TokenId>& out) const {
  std::string normal;
  if (nfc_ && !nfc_->Keeps(text)) {
    normal = nfc_->Normalize(text);
    text = normal;
  }
  normalized_.Split(
      text, parse_special,
      [&](std::string_view stretch) {
        pre_tokenizer_.Split(stretch, [&](std::string_view word) { bpe_.Encode(word, out); });
      },
      [&](TokenId id) { out.push_back(id); });
}

std::string BpeTokenizer::Decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (skip_special_tokens && IsSpecial(id)) continue;
    bytes.append(BytesOf(id));
  }
  if (IsValidUtf8(bytes)) return bytes;
  std::string text;
  AppendLossy(bytes, text);
  return text;
}

std::string BpeTokenizer::SpellingOf(TokenId id) const {
  if (const auto added = added_contents_.find(id); added != added_contents_.end()) {
    return added->second;
  }
  return std::string(vocabulary_->SpellingOf(id));
}

std::optional<TokenId> BpeTokenizer::Find(std::string_view spelling) const {
  if (const auto added = added_ids_.find(ToAbsl(spelling)); added != added_ids_.end()) {
    return added->second;
  }
  return vocabulary_->Find(spelling);
}

}  // namespace
}  // namespace text

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json) {
  MILI_ASSIGN_OR_RETURN(text::TokenizerSpec spec, text::ReadTokenizerJson(tokenizer_json));
  std::vector<text::AddedToken> added = std::move(spec.added_tokens);
  auto tokenizer = std::make_unique<text::BpeTokenizer>(std::move(spec));
  MILI_RETURN_IF_ERROR(tokenizer->AddTokens(std::move(added)));
  return tokenizer;
}

}  // namespace mili

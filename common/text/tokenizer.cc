#include "common/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include "common/base/huge_pages.h"
#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/text/added_tokens.h"
#include "common/text/bpe.h"
#include "common/text/byte_level.h"
#include "common/text/nfc.h"
#include "common/text/pretokenizer.h"
#include "common/text/token_bytes.h"
#include "common/text/tokenizer_json.h"
#include "common/text/utf8.h"
#include "common/text/vocabulary.h"

namespace mili {
namespace text {
namespace {

TokenId EndOfIds(const Vocabulary& vocabulary, const std::vector<AddedToken>& added) {
  TokenId end = vocabulary.end_id();
  for (const AddedToken& token : added) end = std::max(end, token.id + 1);
  return end;
}

// Where tokens go: into a list, or, if they are only counted, nowhere.
class TokenSink {
 public:
  explicit TokenSink(std::vector<TokenId>* ids) : ids_(ids) {}

  size_t count() const { return count_; }
  void Add(std::span<const TokenId> ids) {
    count_ += ids.size();
    if (ids_ != nullptr) ids_->insert(ids_->end(), ids.begin(), ids.end());
  }
  void Encode(const Bpe& bpe, std::span<const std::string_view> words, const char* readable_end) {
    const std::string_view last = words.back();
    const size_t room = last.data() + last.size() - words.front().data() + Bpe::kSlack;
    if (batch_.size() < room) batch_.resize(room);
    Add({batch_.data(), bpe.Encode(words, readable_end, batch_.data())});
  }

 private:
  std::vector<TokenId>* ids_;
  size_t count_ = 0;
  std::vector<TokenId> batch_;
};

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(TokenizerSpec spec)
      : vocabulary_(std::move(spec.vocabulary)),
        bytes_(*vocabulary_, EndOfIds(*vocabulary_, spec.added_tokens)),
        special_(bytes_.end_id(), false),
        bpe_(*vocabulary_, bytes_, spec.bpe),
        pre_tokenizer_(std::move(spec.steps)),
        prefix_(std::move(spec.prefix)),
        suffix_(std::move(spec.suffix)) {
    if (spec.nfc) nfc_.emplace();
  }

  absl::Status AddTokens(std::vector<AddedToken> tokens);

  std::vector<TokenId> Encode(std::string_view text, const EncodeOptions& options) const override;
  size_t Count(std::string_view text, const EncodeOptions& options) const override;
  std::string Decode(std::span<const TokenId> ids, bool skip_special_tokens) const override;

  std::string_view BytesOf(TokenId id) const override { return bytes_.at(id); }
  std::string SpellingOf(TokenId id) const override;
  std::optional<TokenId> Find(std::string_view spelling) const override;
  bool IsSpecial(TokenId id) const override { return id < special_.size() && special_[id]; }
  uint32_t vocab_size() const override { return bytes_.end_id(); }

 private:
  // Text between added tokens that match as they stand.
  void EncodeStretch(std::string_view text, bool parse_special, TokenSink& sink) const;
  void EncodeTo(std::string_view text, const EncodeOptions& options, TokenSink& sink) const;

  std::unique_ptr<Vocabulary> vocabulary_;
  // By id, added tokens too.
  TokenBytes bytes_;
  std::vector<bool> special_;
  Bpe bpe_;
  PreTokenizer pre_tokenizer_;
  std::optional<Nfc> nfc_;
  AddedTokenFinder as_they_stand_;
  AddedTokenFinder normalized_;
  std::vector<TokenId> prefix_;
  std::vector<TokenId> suffix_;
  absl::flat_hash_map<std::string, TokenId> added_ids_;
  absl::flat_hash_map<TokenId, std::string> added_contents_;
};

absl::Status BpeTokenizer::AddTokens(std::vector<AddedToken> tokens) {
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
    std::string bytes;
    AppendByteLevelDecoded(pattern, bytes);
    bytes_.Set(token.id, bytes);
    special_[token.id] = specials.contains(pattern);
    added_ids_.emplace(token.content, token.id);
    added_contents_.emplace(token.id, std::move(token.content));
  }
  as_they_stand_.Finish();
  normalized_.Finish();
  return absl::OkStatus();
}

std::vector<TokenId> BpeTokenizer::Encode(std::string_view text,
                                          const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3 + 16);
  PreferHugePages(ids.data(), ids.capacity() * sizeof(TokenId));
  TokenSink sink(&ids);
  EncodeTo(text, options, sink);
  return ids;
}

size_t BpeTokenizer::Count(std::string_view text, const EncodeOptions& options) const {
  TokenSink sink(nullptr);
  EncodeTo(text, options, sink);
  return sink.count();
}

void BpeTokenizer::EncodeTo(std::string_view text, const EncodeOptions& options,
                            TokenSink& sink) const {
  std::string repaired;
  if (!IsValidUtf8(text)) {
    AppendLossy(text, repaired);
    text = repaired;
  }
  if (options.add_special_tokens) sink.Add(prefix_);
  as_they_stand_.Split(
      text, options.parse_special,
      [&](std::string_view stretch) { EncodeStretch(stretch, options.parse_special, sink); },
      [&](TokenId id) {
        sink.Add({&id, 1});
      });
  if (options.add_special_tokens) sink.Add(suffix_);
}

void BpeTokenizer::EncodeStretch(std::string_view text, bool parse_special, TokenSink& sink) const {
  const auto encode = [&](std::string_view normal) {
    normalized_.Split(
        normal, parse_special,
        [&](std::string_view stretch) {
          pre_tokenizer_.Split(
              stretch,
              [&](std::span<const std::string_view> words, const char* end) {
                sink.Encode(bpe_, words, end);
              },
              bpe_.seams());
        },
        [&](TokenId id) {
          sink.Add({&id, 1});
        });
  };
  if (!nfc_) return encode(text);
  // What normalizing changes is copied; a piece at a time, the copy takes little memory, which
  // stays near. A token that is looked for in normal text may lie across any border.
  constexpr size_t kPieceBytes = size_t{1} << 16;
  std::string normal;
  while (!text.empty()) {
    const size_t size =
        normalized_.empty() ? pre_tokenizer_.SizeOfFront(text, kPieceBytes) : text.size();
    const std::string_view piece = text.substr(0, size);
    normal.clear();
    encode(nfc_->NormalizeTo(normal, piece) ? normal : piece);
    text.remove_prefix(size);
  }
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
  std::vector<text::AddedToken> added = spec.added_tokens;
  auto tokenizer = std::make_unique<text::BpeTokenizer>(std::move(spec));
  MILI_RETURN_IF_ERROR(tokenizer->AddTokens(std::move(added)));
  return tokenizer;
}

}  // namespace mili

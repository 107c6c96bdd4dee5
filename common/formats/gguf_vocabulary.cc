#include "common/formats/gguf_vocabulary.h"

#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/formats/json_text.h"

namespace mili {
namespace {

absl::Status CheckTokens(const GgufFields& fields, GgufVocabulary& vocabulary) {
  const std::vector<std::string>& tokens = *vocabulary.tokens;
  vocabulary.id_of.reserve(tokens.size());
  for (uint32_t id = 0; id < tokens.size(); ++id) {
    if (!IsUtf8(tokens[id])) {
      return fields.Wrong("tokenizer.ggml.tokens", absl::StrCat("[", id, "] is no UTF-8"));
    }
    const int64_t type = vocabulary.types[id];
    if (type < GgufVocabulary::kNormal || type > GgufVocabulary::kUnused) {
      return fields.Wrong("tokenizer.ggml.token_type",
                          absl::StrCat("[", id, "] is ", type, "; expected 1 to 5 for gpt2"));
    }
    if (type == GgufVocabulary::kNormal) vocabulary.num_bpe_tokens = id + 1;
    if (type == GgufVocabulary::kUnused) continue;
    const auto [it, added] = vocabulary.id_of.emplace(tokens[id], id);
    if (!added) {
      return fields.Wrong("tokenizer.ggml.tokens",
                          absl::StrCat("has the same token at ", it->second, " and ", id));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckMerges(const GgufFields& fields, const GgufVocabulary& vocabulary) {
  std::string joined;
  for (size_t i = 0; i < vocabulary.merges->size(); ++i) {
    const std::string_view merge = (*vocabulary.merges)[i];
    const size_t space = merge.empty() ? std::string_view::npos : GgufMergeSpace(merge);
    if (space == std::string_view::npos) {
      return fields.Wrong("tokenizer.ggml.merges",
                          absl::StrCat("[", i, "] is not two tokens with a space between"));
    }
    joined.assign(merge.substr(0, space));
    joined += merge.substr(space + 1);
    for (const std::string_view part :
         {merge.substr(0, space), merge.substr(space + 1), std::string_view(joined)}) {
      const auto it = vocabulary.id_of.find(part);
      if (it == vocabulary.id_of.end() || it->second >= vocabulary.num_bpe_tokens) {
        return fields.Wrong("tokenizer.ggml.merges",
                            absl::StrCat("[", i, "] needs a token that the vocabulary lacks"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

size_t GgufMergeSpace(std::string_view merge) {
  const size_t space = merge.find(' ', 1);
  return space == merge.size() - 1 ? std::string_view::npos : space;
}

absl::StatusOr<GgufVocabulary> ReadGgufVocabulary(const GgufFields& fields) {
  GgufVocabulary vocabulary;
  for (const auto& [key, strings] : {std::pair{"tokenizer.ggml.tokens", &vocabulary.tokens},
                                     std::pair{"tokenizer.ggml.merges", &vocabulary.merges}}) {
    MILI_ASSIGN_OR_RETURN(const GgufArray* array, fields.OptionalArray(key));
    if (array == nullptr || array->type != GgufType::kString) {
      return fields.Wrong(key, "is missing; expected an array of strings");
    }
    *strings = &array->strings;
  }
  const size_t num_tokens = vocabulary.tokens->size();
  MILI_ASSIGN_OR_RETURN(const GgufArray* types, fields.OptionalArray("tokenizer.ggml.token_type"));
  if (types != nullptr && types->count != num_tokens) {
    return fields.Wrong("tokenizer.ggml.token_type",
                        absl::StrCat("has ", types->count, " entries; expected ", num_tokens));
  }
  for (size_t id = 0; id < num_tokens; ++id) {
    // 0, which is no type, stands for one that is no whole number.
    vocabulary.types.push_back(types ? types->IntegerAt(id).value_or(0) : GgufVocabulary::kNormal);
  }
  MILI_RETURN_IF_ERROR(CheckTokens(fields, vocabulary));
  MILI_RETURN_IF_ERROR(CheckMerges(fields, vocabulary));
  return vocabulary;
}

absl::StatusOr<std::optional<TokenId>> NamedGgufToken(const GgufFields& fields,
                                                      const GgufVocabulary& vocabulary,
                                                      std::string_view name) {
  const std::string key = absl::StrCat("tokenizer.ggml.", ToAbsl(name), "_token_id");
  MILI_ASSIGN_OR_RETURN(const auto id, fields.OptionalUint32(key));
  if (!id || *id == UINT32_MAX) return std::nullopt;
  if (*id >= vocabulary.tokens->size()) {
    return fields.Wrong(key, absl::StrCat("is ", *id, "; the vocabulary has ",
                                          vocabulary.tokens->size(), " tokens"));
  }
  return *id;
}

}  // namespace mili

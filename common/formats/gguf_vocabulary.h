// The vocabulary inside a GGUF file: tokens, their types and the merges of byte-level BPE, read and
// checked against each other. Borrows the metadata; immutable; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <absl/status/statusor.h>

#include "common/base/ids.h"
#include "common/formats/gguf_fields.h"

namespace mili {

struct GgufVocabulary {
  // tokenizer.ggml.token_type; 6, a byte, occurs in SentencePiece only.
  enum TokenType : int64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused };

  const std::vector<std::string>* tokens = nullptr;
  std::vector<int64_t> types;  // TokenType of each token
  std::unordered_map<std::string_view, uint32_t> id_of;
  const std::vector<std::string>* merges = nullptr;
  // Ids from here on are added tokens and padding only: as in Hugging Face's own files they stand
  // outside the BPE vocabulary, so that no merge ever makes one.
  uint32_t num_bpe_tokens = 0;
};

// INVALID_ARGUMENT, naming key and index, for tokens that are no UTF-8 or occur twice, types out of
// range, merges that are no two tokens or make none.
absl::StatusOr<GgufVocabulary> ReadGgufVocabulary(const GgufFields& fields);

// Where a checked merge parts: the position of the space between its two tokens.
size_t GgufMergeSpace(std::string_view merge);

// The token that tokenizer.ggml.NAME_token_id names; nothing if it is absent.
absl::StatusOr<std::optional<TokenId>> NamedGgufToken(const GgufFields& fields,
                                                      const GgufVocabulary& vocabulary,
                                                      std::string_view name);

}  // namespace mili

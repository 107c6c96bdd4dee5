// tokenizer.json, the file format of Hugging Face tokenizers, read into a TokenizerSpec: what the
// file says, checked, and nothing that MILI does not do exactly. The text is hostile: counts, ids
// and depth are bounded, and every refusal names the part. Pure function, any thread.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "common/base/ids.h"
#include "common/text/added_tokens.h"
#include "common/text/bpe.h"
#include "common/text/pretokenizer.h"
#include "common/text/vocabulary.h"

namespace mili::text {

struct TokenizerSpec {
  bool nfc = false;
  std::vector<SplitStep> steps;
  std::unique_ptr<Vocabulary> vocabulary;
  BpeSpec bpe;
  std::vector<AddedToken> added_tokens;  // contents not empty, ids as tokenizers gives them
  // What the post-processor puts around a text.
  std::vector<TokenId> prefix;
  std::vector<TokenId> suffix;
};

// `truncation` and `padding` are not read: they are settings of a training run, which transformers
// resets too. INVALID_ARGUMENT for a broken file, UNIMPLEMENTED for what is not supported.
absl::StatusOr<TokenizerSpec> ReadTokenizerJson(std::string_view json);

}  // namespace mili::text

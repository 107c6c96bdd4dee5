// The tokenizer files of a Hugging Face directory as a TokenizerBundle. Stateless; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "common/core/tokenizer_bundle.h"

namespace mili {

// From tokenizer.json (passed on as it is, not parsed), tokenizer_config.json,
// special_tokens_map.json and chat_template.jinja of `directory`. Nothing if there is no tokenizer;
// UNIMPLEMENTED if there is one of another kind only (SentencePiece, vocab.json with merges.txt).
absl::StatusOr<std::optional<TokenizerBundle>> LoadHfTokenizer(const std::string& directory);

// Fills from the text of a tokenizer_config.json or special_tokens_map.json what the bundle does
// not have yet. `file` is for messages.
absl::Status ApplyTokenizerConfig(std::string_view text, std::string_view file,
                                  TokenizerBundle& bundle);

}  // namespace mili

// The tokenizer inside a GGUF file, rewritten as the tokenizer.json that Hugging Face ships for the
// same model. Pure; any thread.
#pragma once

#include <optional>
#include <string_view>

#include <absl/status/statusor.h>

#include "common/core/tokenizer_bundle.h"
#include "common/formats/gguf_fields.h"

namespace mili {

// Nothing if the file has no tokenizer. UNIMPLEMENTED, by name, for a tokenizer.ggml.model other
// than gpt2 (byte-level BPE) and for a tokenizer.ggml.pre that is not known; INVALID_ARGUMENT for
// tokens, merges or ids that contradict each other or are no UTF-8.
absl::StatusOr<std::optional<TokenizerBundle>> TokenizerFromGguf(const GgufMetadata& metadata,
                                                                 std::string_view file);

}  // namespace mili

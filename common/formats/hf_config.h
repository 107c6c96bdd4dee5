// config.json and generation_config.json of a Hugging Face directory, as a ModelConfig. From bytes;
// reads no file. Stateless; any thread.
// Source: transformers, configuration_{llama,mistral,qwen2,qwen3}.py and modeling_rope_utils.py.
#pragma once

#include <string_view>

#include <absl/status/statusor.h>

#include "common/core/model_config.h"

namespace mili {

// `generation_config` may be empty: there is none. The result is valid (see Validate) but for its
// name, which is left empty. INVALID_ARGUMENT or UNIMPLEMENTED, naming file, field, value and what
// was expected; what changes the forward pass and is not supported is refused, never ignored.
absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view config,
                                          std::string_view generation_config);

}  // namespace mili

// GGUF metadata as a ModelConfig, and GGUF's tensor names as Hugging Face's. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "common/core/model_config.h"
#include "common/formats/gguf_fields.h"

namespace mili {

// From metadata and tensor table; rope.freq_factors, which lie in a tensor, and the name are left
// empty. Not yet validated, so that both can be filled in. INVALID_ARGUMENT or UNIMPLEMENTED.
absl::StatusOr<ModelConfig> ConfigFromGguf(const GgufMetadata& metadata,
                                           const std::vector<GgufTensor>& tensors,
                                           std::string_view file);

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; nothing if unknown.
std::optional<std::string> CanonicalName(std::string_view gguf_name);

}  // namespace mili

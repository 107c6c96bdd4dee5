#include "common/formats/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"

namespace mili {
namespace {

bool HasTensor(const std::vector<GgufTensor>& tensors, std::string_view name) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const GgufTensor& tensor) { return tensor.name == name; });
}

absl::Status ReadArchitecture(const GgufFields& fields, ModelConfig& config) {
  MILI_ASSIGN_OR_RETURN(const auto name, fields.OptionalString("general.architecture"));
  if (!name) return fields.Wrong("general.architecture", "is missing");
  for (const Architecture architecture :
       {Architecture::kLlama, Architecture::kQwen2, Architecture::kQwen3}) {
    if (*name == NameOf(architecture)) {
      config.architecture = architecture;
      return absl::OkStatus();
    }
  }
  return fields.Unsupported(
      "general.architecture",
      absl::StrCat("is \"", name->substr(0, 80), "\"; supported are llama, qwen2 and qwen3"));
}

absl::Status ReadHeads(const GgufFields& fields, const std::string& arch, ModelConfig& config) {
  MILI_ASSIGN_OR_RETURN(config.num_heads, fields.Uint32(arch + "attention.head_count"));
  MILI_ASSIGN_OR_RETURN(const auto num_kv_heads,
                        fields.OptionalUint32(arch + "attention.head_count_kv"));
  config.num_kv_heads = num_kv_heads.value_or(config.num_heads);
  MILI_ASSIGN_OR_RETURN(const auto key_length,
                        fields.OptionalUint32(arch + "attention.key_length"));
  if (key_length) {
    config.head_dim = *key_length;
  } else if (config.num_heads == 0 || config.hidden_size % config.num_heads != 0) {
    return fields.Wrong(arch + "attention.head_count",
                        absl::StrCat("is ", config.num_heads, "; expected a divisor of ", arch,
                                     "embedding_length, ", config.hidden_size));
  } else {
    config.head_dim = config.hidden_size / config.num_heads;
  }
  for (const char* field : {"attention.value_length", "rope.dimension_count"}) {
    MILI_ASSIGN_OR_RETURN(const auto value, fields.OptionalUint32(arch + field));
    if (value && *value != config.head_dim) {
      return fields.Unsupported(arch + field, absl::StrCat("is ", *value, "; supported is ",
                                                           config.head_dim, ", the head's size"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadRope(const GgufFields& fields, const std::string& arch, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  MILI_ASSIGN_OR_RETURN(const auto theta, fields.OptionalDouble(arch + "rope.freq_base"));
  if (theta) rope.theta = *theta;
  MILI_ASSIGN_OR_RETURN(const auto type, fields.OptionalString(arch + "rope.scaling.type"));
  MILI_ASSIGN_OR_RETURN(auto factor, fields.OptionalDouble(arch + "rope.scaling.factor"));
  if (!factor) {  // the older name
    MILI_ASSIGN_OR_RETURN(factor, fields.OptionalDouble(arch + "rope.scale_linear"));
  }
  const bool has_factor = factor && *factor != 0 && *factor != 1;
  if (type && *type != "none" && *type != "linear") {
    return fields.Unsupported(
        arch + "rope.scaling.type",
        absl::StrCat("is \"", type->substr(0, 80), "\"; supported are none and linear"));
  }
  // Without a type a factor means linear scaling.
  if (has_factor && (!type || *type == "linear")) {
    rope.scaling = RopeConfig::Scaling::kLinear;
    rope.factor = *factor;
  }
  return absl::OkStatus();
}

// Refuses whatever would change the forward pass in a way that ModelConfig cannot say.
absl::Status CheckPlain(const GgufFields& fields, const std::string& arch, uint32_t context) {
  for (const char* field :
       {"expert_count", "logit_scale", "embedding_scale", "residual_scale", "attention.scale"}) {
    MILI_ASSIGN_OR_RETURN(const auto value, fields.OptionalDouble(arch + field));
    if (value && *value != 0) {
      return fields.Unsupported(arch + field, absl::StrCat("is ", *value, ", which is unknown"));
    }
  }
  MILI_ASSIGN_OR_RETURN(const auto window,
                        fields.OptionalUint32(arch + "attention.sliding_window"));
  if (window && *window != 0 && *window < context) {
    return fields.Unsupported(arch + "attention.sliding_window",
                              absl::StrCat("is ", *window, "; supported is none"));
  }
  return absl::OkStatus();
}

absl::Status ReadTokenIds(const GgufFields& fields, ModelConfig& config) {
  for (const char* field : {"eos", "eot", "eom", "bos"}) {
    const std::string key = absl::StrCat("tokenizer.ggml.", field, "_token_id");
    MILI_ASSIGN_OR_RETURN(const auto id, fields.OptionalUint32(key));
    // Converters write -1 for "none" into the unsigned field.
    if (!id || *id == std::numeric_limits<uint32_t>::max()) continue;
    if (*id >= config.vocab_size) {
      return fields.Wrong(key,
                          absl::StrCat("is ", *id, "; expected an id below ", config.vocab_size));
    }
    if (std::string_view(field) == "bos") {
      config.bos_token_id = *id;
    } else if (auto& ids = config.eos_token_ids;
               std::find(ids.begin(), ids.end(), *id) == ids.end()) {
      ids.push_back(*id);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadVocabSize(const GgufFields& fields, const std::string& arch,
                           const std::vector<GgufTensor>& tensors, ModelConfig& config) {
  MILI_ASSIGN_OR_RETURN(const auto vocab_size, fields.OptionalUint32(arch + "vocab_size"));
  if (vocab_size) {
    config.vocab_size = *vocab_size;
    return absl::OkStatus();
  }
  for (const GgufTensor& tensor : tensors) {
    if (tensor.name != "token_embd.weight" || tensor.shape.size() != 2) continue;
    if (tensor.shape[0] > std::numeric_limits<uint32_t>::max()) break;
    config.vocab_size = static_cast<uint32_t>(tensor.shape[0]);
    return absl::OkStatus();
  }
  return fields.Wrong(arch + "vocab_size", "is missing, and there is no token_embd.weight");
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromGguf(const GgufMetadata& metadata,
                                           const std::vector<GgufTensor>& tensors,
                                           std::string_view file) {
  const GgufFields fields(metadata, file);
  ModelConfig config;
  MILI_RETURN_IF_ERROR(ReadArchitecture(fields, config));
  const std::string arch = absl::StrCat(ToAbsl(NameOf(config.architecture)), ".");
  MILI_ASSIGN_OR_RETURN(config.num_layers, fields.Uint32(arch + "block_count"));
  MILI_ASSIGN_OR_RETURN(config.max_position, fields.Uint32(arch + "context_length"));
  MILI_ASSIGN_OR_RETURN(config.hidden_size, fields.Uint32(arch + "embedding_length"));
  MILI_ASSIGN_OR_RETURN(config.intermediate_size, fields.Uint32(arch + "feed_forward_length"));
  MILI_ASSIGN_OR_RETURN(const double eps, fields.Double(arch + "attention.layer_norm_rms_epsilon"));
  config.rms_norm_eps = static_cast<float>(eps);
  MILI_RETURN_IF_ERROR(ReadHeads(fields, arch, config));
  MILI_RETURN_IF_ERROR(ReadRope(fields, arch, config));
  MILI_RETURN_IF_ERROR(CheckPlain(fields, arch, config.max_position));
  MILI_RETURN_IF_ERROR(ReadVocabSize(fields, arch, tensors, config));
  MILI_RETURN_IF_ERROR(ReadTokenIds(fields, config));
  config.tie_word_embeddings = !HasTensor(tensors, "output.weight");
  config.attention_bias =
      config.architecture == Architecture::kQwen2 || HasTensor(tensors, "blk.0.attn_q.bias");
  config.qk_norm = config.architecture == Architecture::kQwen3;
  return config;
}

std::optional<std::string> CanonicalName(std::string_view gguf_name) {
  for (const auto& [from, to] : {
           std::pair<std::string_view, const char*>{"token_embd.weight",
                                                    "model.embed_tokens.weight"},
           {"output_norm.weight", "model.norm.weight"},
           {"output.weight", "lm_head.weight"},
       }) {
    if (gguf_name == from) return to;
  }
  constexpr std::string_view kPrefix = "blk.";
  if (!gguf_name.starts_with(kPrefix)) return std::nullopt;
  gguf_name.remove_prefix(kPrefix.size());
  const size_t digits = std::min(gguf_name.find_first_not_of("0123456789"), gguf_name.size());
  const std::string_view layer = gguf_name.substr(0, digits);
  if (layer.empty() || layer.size() > 5 || (layer.size() > 1 && layer[0] == '0')) {
    return std::nullopt;
  }
  const std::string_view part = gguf_name.substr(digits);
  for (const auto& [from, to] : {
           std::pair<std::string_view, const char*>{".attn_norm.weight", ".input_layernorm.weight"},
           {".attn_q.weight", ".self_attn.q_proj.weight"},
           {".attn_k.weight", ".self_attn.k_proj.weight"},
           {".attn_v.weight", ".self_attn.v_proj.weight"},
           {".attn_q.bias", ".self_attn.q_proj.bias"},
           {".attn_k.bias", ".self_attn.k_proj.bias"},
           {".attn_v.bias", ".self_attn.v_proj.bias"},
           {".attn_q_norm.weight", ".self_attn.q_norm.weight"},
           {".attn_k_norm.weight", ".self_attn.k_norm.weight"},
           {".attn_output.weight", ".self_attn.o_proj.weight"},
           {".attn_output.bias", ".self_attn.o_proj.bias"},
           {".ffn_norm.weight", ".post_attention_layernorm.weight"},
           {".ffn_gate.weight", ".mlp.gate_proj.weight"},
           {".ffn_up.weight", ".mlp.up_proj.weight"},
           {".ffn_down.weight", ".mlp.down_proj.weight"},
       }) {
    if (part == from) return absl::StrCat("model.layers.", ToAbsl(layer), to);
  }
  return std::nullopt;
}

}  // namespace mili

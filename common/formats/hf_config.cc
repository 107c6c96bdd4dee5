#include "common/formats/hf_config.h"

#include <algorithm>
#include <optional>
#include <string>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/formats/hf_rope.h"
#include "common/formats/json.h"

namespace mili {
namespace {

using nlohmann::json;

constexpr char kFile[] = "config.json";
constexpr char kGenerationFile[] = "generation_config.json";
constexpr char kSupported[] =
    "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM";

absl::Status Unsupported(const char* field, const json& value, std::string_view supported) {
  return absl::UnimplementedError(absl::StrCat(kFile, ": ", field, " is ", Describe(value),
                                               "; supported is ", ToAbsl(supported)));
}

absl::StatusOr<std::string> ArchitectureName(const JsonFields& fields) {
  const json* list = fields.Find("architectures");
  if (list == nullptr) return fields.Missing("architectures", kSupported);
  if (!list->is_array() || list->size() != 1 || !(*list)[0].is_string()) {
    return fields.Wrong("architectures", "a list of one name");
  }
  return (*list)[0].get<std::string>();
}

absl::StatusOr<Architecture> ArchitectureOf(const JsonFields& fields) {
  MILI_ASSIGN_OR_RETURN(const std::string name, ArchitectureName(fields));
  if (name == "LlamaForCausalLM" || name == "MistralForCausalLM") return Architecture::kLlama;
  if (name == "Qwen2ForCausalLM") return Architecture::kQwen2;
  if (name == "Qwen3ForCausalLM") return Architecture::kQwen3;
  return absl::UnimplementedError(absl::StrCat(kFile, ": architecture ", name.substr(0, 80),
                                               " is not supported; supported are ", kSupported));
}

// Refuses whatever would change the forward pass in a way that ModelConfig cannot say.
absl::Status CheckPlain(const JsonFields& fields, bool is_mistral) {
  for (const char* field : {"quantization_config", "compression_config"}) {
    if (const json* value = fields.Find(field)) {
      const std::string method = value->is_object() && value->contains("quant_method")
                                     ? Describe((*value)["quant_method"])
                                     : "of unknown kind";
      return absl::UnimplementedError(
          absl::StrCat(kFile, ": ", field, " (", method,
                       ") is not supported; use the model in f32, f16 or bf16, or a GGUF file"));
    }
  }
  for (const char* field : {"mlp_bias", "use_sliding_window"}) {
    MILI_ASSIGN_OR_RETURN(const std::optional<bool> value, fields.OptionalBool(field));
    if (value.value_or(false)) return Unsupported(field, *value, "false");
  }
  // Qwen writes a window that use_sliding_window false leaves without effect.
  if (const json* window = fields.Find("sliding_window"); window != nullptr && is_mistral) {
    return Unsupported("sliding_window", *window, "null");
  }
  MILI_ASSIGN_OR_RETURN(const std::optional<std::string> act, fields.OptionalString("hidden_act"));
  if (act && *act != "silu" && *act != "swish") return Unsupported("hidden_act", *act, "\"silu\"");
  if (const json* types = fields.Find("layer_types")) {
    const bool plain = types->is_array() && std::all_of(types->begin(), types->end(), [](auto& t) {
                         return t == "full_attention";
                       });
    if (!plain) return Unsupported("layer_types", *types, "\"full_attention\" for every layer");
  }
  MILI_ASSIGN_OR_RETURN(const std::optional<bool> is_decoder_only,
                        fields.OptionalBool("is_encoder_decoder"));
  if (is_decoder_only.value_or(false)) return Unsupported("is_encoder_decoder", true, "false");
  return absl::OkStatus();
}

absl::Status ReadHeads(const JsonFields& fields, ModelConfig& config) {
  MILI_ASSIGN_OR_RETURN(config.num_heads, fields.Uint32("num_attention_heads"));
  MILI_ASSIGN_OR_RETURN(const auto num_kv_heads, fields.OptionalUint32("num_key_value_heads"));
  if (!num_kv_heads && config.architecture != Architecture::kLlama) {
    return fields.Missing("num_key_value_heads", "a whole number");
  }
  config.num_kv_heads = num_kv_heads.value_or(config.num_heads);
  MILI_ASSIGN_OR_RETURN(const auto head_dim, fields.OptionalUint32("head_dim"));
  if (head_dim) {
    config.head_dim = *head_dim;
  } else if (config.architecture == Architecture::kQwen3) {
    config.head_dim = 128;  // Qwen3Config's default; it does not follow from hidden_size
  } else {
    if (config.num_heads == 0 || config.hidden_size % config.num_heads != 0) {
      return fields.Wrong("hidden_size", absl::StrCat("a multiple of num_attention_heads, ",
                                                      config.num_heads, ", or a head_dim"));
    }
    config.head_dim = config.hidden_size / config.num_heads;
  }
  return absl::OkStatus();
}

// Adds the ids of a field that holds one, a list, or nothing.
absl::Status AddTokenIds(const json& object, std::string_view file, const char* field,
                         uint32_t vocab_size, std::vector<TokenId>& ids) {
  const JsonFields fields(object, file);
  const json* value = fields.Find(field);
  if (value == nullptr) return absl::OkStatus();
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= vocab_size) {
      return fields.Wrong(field, absl::StrCat("ids below vocab_size, ", vocab_size));
    }
    const TokenId token = id.get<TokenId>();
    if (std::find(ids.begin(), ids.end(), token) == ids.end()) ids.push_back(token);
  }
  return absl::OkStatus();
}

absl::Status ReadTokenIds(const json& object, std::string_view generation_config,
                          ModelConfig& config) {
  MILI_RETURN_IF_ERROR(
      AddTokenIds(object, kFile, "eos_token_id", config.vocab_size, config.eos_token_ids));
  std::vector<TokenId> bos;
  MILI_RETURN_IF_ERROR(AddTokenIds(object, kFile, "bos_token_id", config.vocab_size, bos));
  if (!generation_config.empty()) {
    MILI_ASSIGN_OR_RETURN(const json generation,
                          ParseJsonObject(generation_config, kGenerationFile));
    MILI_RETURN_IF_ERROR(AddTokenIds(generation, kGenerationFile, "eos_token_id", config.vocab_size,
                                     config.eos_token_ids));
    MILI_RETURN_IF_ERROR(
        AddTokenIds(generation, kGenerationFile, "bos_token_id", config.vocab_size, bos));
  }
  if (!bos.empty()) config.bos_token_id = bos.front();
  return absl::OkStatus();
}

absl::Status ReadSizes(const JsonFields& fields, ModelConfig& config) {
  MILI_ASSIGN_OR_RETURN(config.num_layers, fields.Uint32("num_hidden_layers"));
  MILI_ASSIGN_OR_RETURN(config.hidden_size, fields.Uint32("hidden_size"));
  MILI_ASSIGN_OR_RETURN(config.intermediate_size, fields.Uint32("intermediate_size"));
  MILI_ASSIGN_OR_RETURN(config.vocab_size, fields.Uint32("vocab_size"));
  MILI_ASSIGN_OR_RETURN(config.max_position, fields.Uint32("max_position_embeddings"));
  MILI_ASSIGN_OR_RETURN(const double eps, fields.Double("rms_norm_eps"));
  config.rms_norm_eps = static_cast<float>(eps);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view text,
                                          std::string_view generation_config) {
  MILI_ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, kFile));
  const JsonFields fields(object, kFile);
  ModelConfig config;
  MILI_ASSIGN_OR_RETURN(config.architecture, ArchitectureOf(fields));
  MILI_ASSIGN_OR_RETURN(const std::string name, ArchitectureName(fields));
  MILI_RETURN_IF_ERROR(CheckPlain(fields, name == "MistralForCausalLM"));
  MILI_RETURN_IF_ERROR(ReadSizes(fields, config));
  MILI_RETURN_IF_ERROR(ReadHeads(fields, config));
  MILI_ASSIGN_OR_RETURN(const auto tied, fields.OptionalBool("tie_word_embeddings"));
  config.tie_word_embeddings = tied.value_or(false);
  MILI_ASSIGN_OR_RETURN(const auto bias, fields.OptionalBool("attention_bias"));
  config.attention_bias = bias.value_or(false) || config.architecture == Architecture::kQwen2;
  config.qk_norm = config.architecture == Architecture::kQwen3;
  MILI_ASSIGN_OR_RETURN(config.rope, ParseHfRope(object));
  MILI_RETURN_IF_ERROR(ReadTokenIds(object, generation_config, config));
  if (absl::Status status = Validate(config); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(kFile, ": ", status.message()));
  }
  return config;
}

}  // namespace mili

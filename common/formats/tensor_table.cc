#include "common/formats/tensor_table.h"

#include <unordered_map>
#include <utility>

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"

namespace mili {
namespace {

void AppendLayer(const ModelConfig& config, uint32_t layer, std::vector<ExpectedTensor>& all) {
  const uint64_t hidden = config.hidden_size;
  const uint64_t q = config.q_size();
  const uint64_t kv = config.kv_size();
  const uint64_t mlp = config.intermediate_size;
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  const auto add = [&](const char* name, std::vector<uint64_t> shape) {
    all.push_back({prefix + name, std::move(shape)});
  };
  add("input_layernorm.weight", {hidden});
  add("self_attn.q_proj.weight", {q, hidden});
  add("self_attn.k_proj.weight", {kv, hidden});
  add("self_attn.v_proj.weight", {kv, hidden});
  if (config.attention_bias) {
    add("self_attn.q_proj.bias", {q});
    add("self_attn.k_proj.bias", {kv});
    add("self_attn.v_proj.bias", {kv});
  }
  if (config.qk_norm) {
    add("self_attn.q_norm.weight", {config.head_dim});
    add("self_attn.k_norm.weight", {config.head_dim});
  }
  add("self_attn.o_proj.weight", {hidden, q});
  add("post_attention_layernorm.weight", {hidden});
  add("mlp.gate_proj.weight", {mlp, hidden});
  add("mlp.up_proj.weight", {mlp, hidden});
  add("mlp.down_proj.weight", {hidden, mlp});
}

std::string NameInMessages(const TensorInfo& tensor) {
  if (tensor.name == tensor.name_in_file) return tensor.name;
  return absl::StrCat(tensor.name_in_file, " (", tensor.name, ")");
}

absl::Status CheckTensor(const TensorInfo& tensor, const ExpectedTensor& expected,
                         std::string_view model) {
  if (tensor.shape != expected.shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        ToAbsl(model), ": tensor ", NameInMessages(tensor), " has shape ", ShapeText(tensor.shape),
        "; expected ", ShapeText(expected.shape), " by the model's config"));
  }
  if (tensor.shape.size() == 1 && IsQuantized(tensor.dtype)) {
    return absl::UnimplementedError(absl::StrCat(
        ToAbsl(model), ": tensor ", NameInMessages(tensor), " has type ",
        ToAbsl(NameOf(tensor.dtype)), "; norms and biases are expected in f32, f16 or bf16"));
  }
  return absl::OkStatus();
}

absl::Status Unknown(const TensorInfo& tensor, const ModelConfig& config, std::string_view model) {
  std::string_view why = "this architecture has no such tensor";
  if (absl::EndsWith(tensor.name, ".o_proj.bias") || absl::StrContains(tensor.name, ".mlp.")) {
    why = "a bias or an expert here is not supported";
  }
  return absl::InvalidArgumentError(absl::StrCat(
      ToAbsl(model), ": unknown tensor ", NameInMessages(tensor), " of shape ",
      ShapeText(tensor.shape), "; ", ToAbsl(why), " (", ToAbsl(NameOf(config.architecture)), ", ",
      config.num_layers, " layers", config.attention_bias ? ", attention bias" : "", ")"));
}

}  // namespace

std::string ShapeText(const std::vector<uint64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config) {
  const uint64_t vocab = config.vocab_size;
  std::vector<ExpectedTensor> all;
  all.push_back({"model.embed_tokens.weight", {vocab, config.hidden_size}});
  for (uint32_t layer = 0; layer < config.num_layers; ++layer) AppendLayer(config, layer, all);
  all.push_back({"model.norm.weight", {config.hidden_size}});
  if (!config.tie_word_embeddings) {
    all.push_back({"lm_head.weight", {vocab, config.hidden_size}});
  }
  return all;
}

absl::StatusOr<std::vector<TensorInfo>> MatchTensors(const ModelConfig& config,
                                                     std::vector<TensorInfo> found,
                                                     std::string_view model) {
  std::unordered_map<std::string, TensorInfo*> by_name;
  for (TensorInfo& tensor : found) by_name.emplace(tensor.name, &tensor);
  const std::vector<ExpectedTensor> expected = ExpectedTensors(config);
  std::vector<TensorInfo> matched;
  matched.reserve(expected.size());
  for (const ExpectedTensor& want : expected) {
    const auto it = by_name.find(want.name);
    if (it == by_name.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(ToAbsl(model), ": tensor ", want.name, " is missing; expected one of shape ",
                       ShapeText(want.shape), " for ", ToAbsl(NameOf(config.architecture))));
    }
    MILI_RETURN_IF_ERROR(CheckTensor(*it->second, want, model));
    matched.push_back(std::move(*it->second));
    by_name.erase(it);
  }
  for (const TensorInfo& tensor : found) {
    if (by_name.contains(tensor.name)) return Unknown(tensor, config, model);
  }
  return matched;
}

}  // namespace mili

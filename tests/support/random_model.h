// RandomModel: a model of any shape whose weights are drawn, not read: the same for the same shape
// and seed. For tests of one device against another.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "common/formats/model_source.h"

namespace mili::worker {

class RandomModel final : public ModelSource {
 public:
  // `dtype`: kBF16, kF16 or kF32, of every tensor. `is_exact_in_fp8`: the layers' matrices lose
  // nothing when their rows are rounded to e4m3 with a scale of amax / 448.
  RandomModel(ModelConfig config, DType dtype, uint64_t seed, bool is_exact_in_fp8 = false)
      : config_(std::move(config)), dtype_(dtype), seed_(seed), is_exact_in_fp8_(is_exact_in_fp8) {
    const uint64_t hidden = config_.hidden_size;
    const uint64_t mlp = config_.intermediate_size;
    Add("model.embed_tokens.weight", {config_.vocab_size, hidden});
    Add("model.norm.weight", {hidden});
    if (!config_.tie_word_embeddings) Add("lm_head.weight", {config_.vocab_size, hidden});
    for (uint32_t i = 0; i < config_.num_layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i) + ".";
      Add(layer + "input_layernorm.weight", {hidden});
      Add(layer + "post_attention_layernorm.weight", {hidden});
      const std::pair<const char*, uint64_t> projections[] = {
          {"q", config_.q_size()}, {"k", config_.kv_size()}, {"v", config_.kv_size()}};
      for (const auto& [name, size] : projections) {
        Add(layer + "self_attn." + name + "_proj.weight", {size, hidden});
        if (config_.attention_bias) Add(layer + "self_attn." + name + "_proj.bias", {size});
      }
      if (config_.qk_norm) {
        Add(layer + "self_attn.q_norm.weight", {config_.head_dim});
        Add(layer + "self_attn.k_norm.weight", {config_.head_dim});
      }
      Add(layer + "self_attn.o_proj.weight", {hidden, config_.q_size()});
      Add(layer + "mlp.gate_proj.weight", {mlp, hidden});
      Add(layer + "mlp.up_proj.weight", {mlp, hidden});
      Add(layer + "mlp.down_proj.weight", {hidden, mlp});
    }
  }

  const ModelConfig& config() const override { return config_; }
  std::string_view format() const override { return "random"; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                    [&](const TensorInfo& t) { return t.name == name; });
    return found == tensors_.end() ? nullptr : &*found;
  }
  absl::Status ReadRows(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                        std::span<std::byte> to) const override {
    const uint64_t first = first_row * tensor.num_cols();
    const uint64_t element_bytes = to.size() / (num_rows * tensor.num_cols());
    for (uint64_t i = 0; i < num_rows * tensor.num_cols(); ++i) {
      const float value = ValueOf(tensor, first + i);
      std::byte* const at = to.data() + i * element_bytes;
      const uint16_t half = dtype_ == DType::kBF16 ? FloatToBf16(value) : FloatToHalf(value);
      if (dtype_ == DType::kF32) {
        std::memcpy(at, &value, sizeof(value));
      } else {
        std::memcpy(at, &half, sizeof(half));
      }
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<TokenizerBundle>> LoadTokenizer() const override {
    return std::optional<TokenizerBundle>();
  }
  const std::string& generation_config_json() const override { return empty_; }

 private:
  void Add(const std::string& name, std::vector<uint64_t> shape) {
    TensorInfo tensor;
    tensor.name = tensor.name_in_file = name;
    tensor.dtype = dtype_;
    tensor.shape = std::move(shape);
    tensor.size_bytes = RowBytes(dtype_, tensor.num_cols()) * tensor.num_rows();
    tensor.offset_bytes = tensors_.size();  // tells tensors of the same shape apart
    tensors_.push_back(std::move(tensor));
  }

  // Matrices keep the size of what they multiply, biases are small, norms lie about 1.
  float ValueOf(const TensorInfo& tensor, uint64_t i) const {
    uint64_t x = seed_ * 0x9e3779b97f4a7c15u + tensor.offset_bytes * 0xd1b54a32d192ed03u + i;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;  // splitmix64
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    const float drawn = static_cast<float>(x >> 40) / (1 << 23) - 1.0f;  // [-1, 1)
    if (tensor.shape.size() == 1) {
      const bool is_bias = tensor.name.ends_with(".bias");
      return is_bias ? 0.3f * drawn : 1.0f + 0.2f * drawn;
    }
    if (tensor.name == "model.embed_tokens.weight") return 0.5f * drawn;
    if (is_exact_in_fp8_ && tensor.name.starts_with("model.layers.")) {
      return Fp8ValueOf(tensor.num_cols(), i, x);
    }
    return drawn * std::sqrt(3.0f / static_cast<float>(tensor.num_cols()));
  }

  // (8 + mantissa) 2^exponent, up to 448 as e4m3 has it, which each row begins with; times a power
  // of two that differs from row to row.
  static float Fp8ValueOf(uint64_t num_cols, uint64_t i, uint64_t x) {
    const bool is_first = i % num_cols == 0;
    const int mantissa = is_first ? 6 : static_cast<int>(x % 7);
    const int exponent = is_first ? 5 : static_cast<int>(x / 7 % 6);
    const float value = std::ldexp(static_cast<float>(8 + mantissa), exponent);
    const int scale = std::ilogb(1.0f / (180.0f * std::sqrt(static_cast<float>(num_cols))));
    const float scaled = std::ldexp(value, scale - static_cast<int>(i / num_cols % 3));
    return x >> 63 != 0 ? scaled : -scaled;
  }

  const ModelConfig config_;
  const DType dtype_;
  const uint64_t seed_;
  const bool is_exact_in_fp8_;
  std::vector<TensorInfo> tensors_;
  const std::string empty_;
};

}  // namespace mili::worker

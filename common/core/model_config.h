// ModelConfig: what a model is, independent of the file it came from. Immutable once read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>

#include "common/base/dtype.h"
#include "common/base/ids.h"

namespace mili {

enum class Architecture { kLlama, kQwen2, kQwen3 };

// "llama", "qwen2", "qwen3".
std::string_view NameOf(Architecture architecture);

// Rotary position embedding, half-split form: element i pairs with i + head_dim / 2. The inverse
// frequency of pair i is theta^(-2i / head_dim), then scaled.
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kLlama3 };
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  // kLinear and kLlama3: frequencies are divided by factor (kLlama3: those of long wavelengths).
  double factor = 1.0;
  // kLlama3 only, as in Hugging Face's rope_scaling of type "llama3".
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  uint32_t original_max_position = 8192;
  // GGUF's rope_freqs: each inverse frequency is divided by its factor. Empty or head_dim / 2 long;
  // when present `scaling` is kNone.
  std::vector<float> freq_factors;
};

struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  // The directory's or file's name without extension.
  std::string name;
  uint32_t num_layers = 0;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t num_heads = 0;
  uint32_t num_kv_heads = 0;
  uint32_t head_dim = 0;
  // Rows of the embedding; may exceed what the tokenizer knows.
  uint32_t vocab_size = 0;
  // The longest context the model was made for.
  uint32_t max_position = 0;
  float rms_norm_eps = 1e-5f;
  // The head is the embedding.
  bool tie_word_embeddings = false;
  // q, k and v have a bias (Qwen2; Llama only if its config says so).
  bool attention_bias = false;
  // q and k are RMS-normalised per head before RoPE (Qwen3).
  bool qk_norm = false;
  RopeConfig rope;
  // Union of config and generation_config.
  std::vector<TokenId> eos_token_ids;
  std::optional<TokenId> bos_token_id;

  uint32_t q_size() const { return num_heads * head_dim; }
  uint32_t kv_size() const { return num_kv_heads * head_dim; }
};

// Refuses what the forward pass cannot compute, naming the field, its value and what is allowed:
// zero sizes, num_heads not a multiple of num_kv_heads, odd head_dim or one above 256, eps or theta
// not finite and positive, products that overflow. UNIMPLEMENTED or INVALID_ARGUMENT.
absl::Status Validate(const ModelConfig& config);

// Inverse frequencies of RoPE after scaling, [head_dim / 2]. Formula: Hugging Face
// modeling_rope_utils (default, linear, llama3).
std::vector<float> RopeInverseFrequencies(const ModelConfig& config);

}  // namespace mili

#include "common/core/model_config.h"

#include <cmath>
#include <numbers>

#include <absl/strings/str_cat.h>

#include "common/base/strings.h"

namespace mili {
namespace {

constexpr uint32_t kMaxHeadDim = 256;
constexpr uint32_t kMaxSize = 1u << 20;   // of hidden, intermediate
constexpr uint32_t kMaxVocab = 1u << 20;  // rows of the embedding
constexpr uint32_t kMaxLayers = 1024;
constexpr uint32_t kMaxPosition = 1u << 24;

absl::Status CheckRange(std::string_view field, uint32_t value, uint32_t max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(field), " is ", value, "; expected 1 to ", max));
}

absl::Status CheckPositive(std::string_view field, double value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(field), " is ", value, "; expected a positive number"));
}

}  // namespace

std::string_view NameOf(Architecture architecture) {
  switch (architecture) {
    case Architecture::kLlama:
      return "llama";
    case Architecture::kQwen2:
      return "qwen2";
    case Architecture::kQwen3:
      return "qwen3";
  }
  return "?";
}

absl::Status Validate(const ModelConfig& config) {
  for (const auto& [field, value, max] : {
           std::tuple{"num_layers", config.num_layers, kMaxLayers},
           std::tuple{"hidden_size", config.hidden_size, kMaxSize},
           std::tuple{"intermediate_size", config.intermediate_size, kMaxSize},
           std::tuple{"num_heads", config.num_heads, 1024u},
           std::tuple{"num_kv_heads", config.num_kv_heads, 1024u},
           std::tuple{"head_dim", config.head_dim, kMaxHeadDim},
           std::tuple{"vocab_size", config.vocab_size, kMaxVocab},
           std::tuple{"max_position", config.max_position, kMaxPosition},
       }) {
    if (absl::Status status = CheckRange(field, value, max); !status.ok()) return status;
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("num_heads is ", config.num_heads,
                                                   "; expected a multiple of num_kv_heads, ",
                                                   config.num_kv_heads));
  }
  if (config.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head_dim is ", config.head_dim, "; expected an even number"));
  }
  if (absl::Status status = CheckPositive("rms_norm_eps", config.rms_norm_eps); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckPositive("rope theta", config.rope.theta); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckPositive("rope factor", config.rope.factor); !status.ok()) {
    return status;
  }
  if (!config.rope.freq_factors.empty() && config.rope.freq_factors.size() != config.head_dim / 2) {
    return absl::InvalidArgumentError(absl::StrCat("rope_freqs has ",
                                                   config.rope.freq_factors.size(),
                                                   " factors; expected ", config.head_dim / 2));
  }
  for (const float factor : config.rope.freq_factors) {
    if (absl::Status status = CheckPositive("rope_freqs", factor); !status.ok()) return status;
  }
  if (config.rope.scaling == RopeConfig::Scaling::kLlama3) {
    const RopeConfig& rope = config.rope;
    if (!(rope.low_freq_factor > 0) || !(rope.high_freq_factor > rope.low_freq_factor) ||
        rope.original_max_position == 0) {
      return absl::InvalidArgumentError(
          "rope_scaling: expected 0 < low_freq_factor < high_freq_factor and "
          "original_max_position_embeddings > 0");
    }
  }
  return absl::OkStatus();
}

std::vector<float> RopeInverseFrequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  const uint32_t num_pairs = config.head_dim / 2;
  std::vector<float> inverse_frequencies(num_pairs);
  for (uint32_t i = 0; i < num_pairs; ++i) {
    double frequency = 1.0 / std::pow(rope.theta, 2.0 * i / config.head_dim);
    if (!rope.freq_factors.empty()) {
      frequency /= rope.freq_factors[i];
    } else if (rope.scaling == RopeConfig::Scaling::kLinear) {
      frequency /= rope.factor;
    } else if (rope.scaling == RopeConfig::Scaling::kLlama3) {
      const double wavelength = 2 * std::numbers::pi / frequency;
      const double low_wavelength = rope.original_max_position / rope.low_freq_factor;
      const double high_wavelength = rope.original_max_position / rope.high_freq_factor;
      if (wavelength > low_wavelength) {
        frequency /= rope.factor;
      } else if (wavelength >= high_wavelength) {
        const double smooth = (rope.original_max_position / wavelength - rope.low_freq_factor) /
                              (rope.high_freq_factor - rope.low_freq_factor);
        frequency = (1 - smooth) * frequency / rope.factor + smooth * frequency;
      }
    }
    inverse_frequencies[i] = static_cast<float>(frequency);
  }
  return inverse_frequencies;
}

}  // namespace mili

// LayerOps: the ops of a step at the grain of the fused kernels, as one device does them; what they
// work on (activations, weights, the step at hand) is the device's own. RunLayers is the forward
// pass of every supported architecture, stated once for all devices.
#pragma once

#include <cstdint>

#include <absl/status/status.h>

namespace mili::worker {

class LayerOps {
 public:
  virtual ~LayerOps() = default;
  // The hidden state becomes the embeddings of the step's tokens.
  virtual absl::Status Embed() = 0;
  // Each reads what the op before it left behind.
  virtual absl::Status InputNorm(uint32_t layer_idx) = 0;
  virtual absl::Status Qkv(uint32_t layer_idx) = 0;
  // Bias, QK-norm, RoPE, and K and V into their pages.
  virtual absl::Status QkvPrepare(uint32_t layer_idx) = 0;
  virtual absl::Status Attention(uint32_t layer_idx) = 0;
  virtual absl::Status AttentionOutput(uint32_t layer_idx) = 0;  // adds to the hidden state
  virtual absl::Status MlpNorm(uint32_t layer_idx) = 0;
  virtual absl::Status GateUp(uint32_t layer_idx) = 0;
  virtual absl::Status SiluMul(uint32_t layer_idx) = 0;
  virtual absl::Status Down(uint32_t layer_idx) = 0;  // adds to the hidden state

  // Whether any token of the step is sampled or scored. If none is, the step is over with the last
  // layer's keys and values.
  virtual bool HasOutputs() const = 0;
  // Behind the last layer's attention: from here on only tokens that are sampled or scored matter,
  // so that the others may be left out.
  virtual absl::Status KeepOutputs() = 0;
};

// Computes all layers for the tokens of the step and writes their KV. The hidden state in the end
// is that of the tokens that are sampled or scored.
absl::Status RunLayers(LayerOps& ops, uint32_t num_layers);

}  // namespace mili::worker

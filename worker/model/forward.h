// Forward: the forward pass of every supported architecture, stated once as a straight list of ops.
// Runs on the stream's executor thread. A row's numbers depend on its own tokens only, so batches,
// chunks and restarts change nothing.
#pragma once

#include <span>
#include <vector>

#include <absl/status/status.h>

#include "common/core/model_config.h"
#include "worker/device/kv_arena.h"
#include "worker/model/step_batch.h"
#include "worker/model/weights.h"
#include "worker/model/workspace.h"
#include "worker/ops/ops.h"

namespace mili::worker {

class Forward {
 public:
  // All of these outlive it.
  Forward(const ModelConfig& config, const Weights& weights, const KvArena& kv,
          const Workspace& workspace, const Compute& compute);

  // Computes all layers for the tokens of `batch` and writes their KV. The hidden state stays in
  // the workspace until the next Run.
  absl::Status Run(const StepBatch& batch);

  // Logits of these tokens (indices into the batch of the last Run), at most tile_rows of them:
  // [token_idxs.size(), vocab_size], valid until the next call.
  absl::Status Logits(std::span<const uint32_t> token_idxs, float** logits);

 private:
  absl::Status Attention(const LayerWeights& layer, uint32_t layer_idx, const StepBatch& batch);
  absl::Status Mlp(const LayerWeights& layer, int64_t num_tokens);
  absl::Status Norm(const float* delta, const float* weight, int64_t num_tokens);

  const ModelConfig& config_;
  const Weights& weights_;
  const KvArena& kv_;
  const Workspace& ws_;
  const Compute compute_;
  const std::vector<float> inv_freq_;  // [head_dim / 2]
};

}  // namespace mili::worker

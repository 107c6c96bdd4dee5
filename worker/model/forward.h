// Forward: the ops of a forward pass on the CPU. Runs on the stream's executor thread. A row's
// numbers depend on its own tokens only, so batches, chunks and restarts change nothing.
#pragma once

#include <span>
#include <vector>

#include <absl/status/status.h>

#include "common/core/model_config.h"
#include "worker/device/kv_arena.h"
#include "worker/model/layer_ops.h"
#include "worker/model/step_batch.h"
#include "worker/model/weights.h"
#include "worker/model/workspace.h"
#include "worker/ops/ops.h"

namespace mili::worker {

class Forward final : private LayerOps {
 public:
  // All of these outlive it.
  Forward(const ModelConfig& config, const Weights& weights, const KvArena& kv,
          const Workspace& workspace, const Compute& compute);

  // Computes all layers for the tokens of `batch` and writes their KV. The hidden state of
  // `outputs`, indices into the batch in any order, stays in the workspace until the next Run.
  absl::Status Run(const StepBatch& batch, std::span<const uint32_t> outputs);

  // Logits of these tokens, outputs of the last Run, at most tile_rows of them:
  // [token_idxs.size(), vocab_size], valid until the next call.
  absl::Status Logits(std::span<const uint32_t> token_idxs, float** logits);

 private:
  absl::Status Embed() override;
  absl::Status InputNorm(uint32_t layer_idx) override;
  absl::Status Qkv(uint32_t layer_idx) override;
  absl::Status QkvPrepare(uint32_t layer_idx) override;
  absl::Status Attention(uint32_t layer_idx) override;
  absl::Status AttentionOutput(uint32_t layer_idx) override;
  absl::Status MlpNorm(uint32_t layer_idx) override;
  absl::Status GateUp(uint32_t layer_idx) override;
  absl::Status SiluMul(uint32_t layer_idx) override;
  absl::Status Down(uint32_t layer_idx) override;
  bool HasOutputs() const override { return !kept_.empty(); }
  absl::Status KeepOutputs() override;
  // residual += delta of the block before, if there is one; normed = its norm. The product that
  // reads `normed` does it, in the pass in which it prepares its input.
  kernels::AddRmsNormParams Norm(const float* weight) const;
  const LayerWeights& layer(uint32_t layer_idx) const { return weights_.layers()[layer_idx]; }

  const ModelConfig& config_;
  const Weights& weights_;
  const KvArena& kv_;
  const Workspace& ws_;
  const Compute compute_;
  const std::vector<float> inv_freq_;  // [head_dim / 2]

  const StepBatch* batch_ = nullptr;  // of Run
  int64_t num_tokens_ = 0;            // rows that the ops work on; after KeepOutputs those of kept_
  std::vector<uint32_t> kept_;        // outputs of Run, ascending, each once
  const float* delta_ = nullptr;      // what the block before adds to the residual; null: nothing
};

}  // namespace mili::worker

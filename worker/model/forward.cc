#include "worker/model/forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace mili::worker {

Forward::Forward(const ModelConfig& config, const Weights& weights, const KvArena& kv,
                 const Workspace& workspace, const Compute& compute)
    : config_(config),
      weights_(weights),
      kv_(kv),
      ws_(workspace),
      compute_(compute),
      inv_freq_(RopeInverseFrequencies(config)) {}

absl::Status Forward::Run(const StepBatch& batch, std::span<const uint32_t> outputs) {
  batch_ = &batch;
  num_tokens_ = batch.num_tokens();
  delta_ = nullptr;
  kept_.assign(outputs.begin(), outputs.end());
  std::sort(kept_.begin(), kept_.end());
  kept_.erase(std::unique(kept_.begin(), kept_.end()), kept_.end());
  // residual + delta is the hidden state in the end; Logits adds them.
  return RunLayers(*this, config_.num_layers);
}

absl::Status Forward::Embed() {
  RopeTable(inv_freq_.data(), batch_->positions.data(), num_tokens_, config_.head_dim / 2,
            ws_.rope_cos, ws_.rope_sin, *compute_.pool);
  return worker::Embed(compute_, {.table = weights_.embed(),
                                  .token_ids = batch_->token_ids.data(),
                                  .num_tokens = num_tokens_,
                                  .out = ws_.residual});
}

kernels::AddRmsNormParams Forward::Norm(const float* weight) const {
  return {.residual = ws_.residual,
          .delta = delta_,
          .weight = weight,
          .eps = config_.rms_norm_eps,
          .num_tokens = num_tokens_,
          .hidden_size = config_.hidden_size,
          .out = ws_.normed};
}

absl::Status Forward::InputNorm(uint32_t) { return absl::OkStatus(); }  // with Qkv

absl::Status Forward::Qkv(uint32_t layer_idx) {
  const LayerWeights& w = layer(layer_idx);
  const kernels::AddRmsNormParams norm = Norm(w.input_norm);
  return Linear(compute_, {.x = ws_.normed,
                           .norm = &norm,
                           .num_tokens = num_tokens_,
                           .in_features = config_.hidden_size,
                           .parts = {{w.q, w.q_bias, ws_.q, config_.q_size()},
                                     {w.k, w.k_bias, ws_.k, config_.kv_size()},
                                     {w.v, w.v_bias, ws_.v, config_.kv_size()}},
                           .num_parts = 3,
                           .workspace = ws_.linear});
}

absl::Status Forward::QkvPrepare(uint32_t) { return absl::OkStatus(); }  // with Attention

absl::Status Forward::Attention(uint32_t layer_idx) {
  const kernels::QkvPrepareParams prepare = {.q = ws_.q,
                                             .k = ws_.k,
                                             .v = ws_.v,
                                             .q_stride = config_.q_size(),
                                             .kv_stride = config_.kv_size(),
                                             .q_norm = layer(layer_idx).q_norm,
                                             .k_norm = layer(layer_idx).k_norm,
                                             .eps = config_.rms_norm_eps,
                                             .rope_cos = ws_.rope_cos,
                                             .rope_sin = ws_.rope_sin,
                                             .positions = ws_.row_numbers,
                                             .slot_map = batch_->slot_map.data(),
                                             .num_tokens = num_tokens_,
                                             .num_heads = config_.num_heads,
                                             .num_kv_heads = config_.num_kv_heads,
                                             .head_dim = config_.head_dim,
                                             .kv = kv_.Layer(layer_idx)};
  return PagedAttention(compute_, {.q = ws_.q,
                                   .q_stride = config_.q_size(),
                                   .out = ws_.attention,
                                   .cu_seqlens = batch_->cu_seqlens.data(),
                                   .context_lens = batch_->context_lens.data(),
                                   .page_table = batch_->page_table.data(),
                                   .page_table_stride = batch_->page_table_stride,
                                   .num_seqs = batch_->num_rows(),
                                   .num_heads = config_.num_heads,
                                   .num_kv_heads = config_.num_kv_heads,
                                   .head_dim = config_.head_dim,
                                   .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                                   .kv = prepare.kv,
                                   .prepare = &prepare});
}

absl::Status Forward::KeepOutputs() {
  const auto gather = [&](float* rows, int64_t size) {
    for (size_t i = 0; i < kept_.size(); ++i) {
      if (kept_[i] == i) continue;
      std::memcpy(rows + i * size, rows + kept_[i] * size, size * sizeof(float));
    }
  };
  gather(ws_.attention, config_.q_size());
  gather(ws_.residual, config_.hidden_size);
  num_tokens_ = static_cast<int64_t>(kept_.size());
  return absl::OkStatus();
}

absl::Status Forward::AttentionOutput(uint32_t layer_idx) {
  delta_ = ws_.delta;
  return Linear(compute_, {.x = ws_.attention,
                           .num_tokens = num_tokens_,
                           .in_features = config_.q_size(),
                           .parts = {{layer(layer_idx).o, nullptr, ws_.delta, config_.hidden_size}},
                           .num_parts = 1,
                           .workspace = ws_.linear});
}

absl::Status Forward::MlpNorm(uint32_t) { return absl::OkStatus(); }  // with GateUp

absl::Status Forward::GateUp(uint32_t layer_idx) {
  const LayerWeights& w = layer(layer_idx);
  const kernels::AddRmsNormParams norm = Norm(w.post_attention_norm);
  const int64_t size = config_.intermediate_size;
  return Linear(compute_,
                {.x = ws_.normed,
                 .norm = &norm,
                 .silu_mul = true,
                 .num_tokens = num_tokens_,
                 .in_features = config_.hidden_size,
                 .parts = {{w.gate, nullptr, ws_.gate, size}, {w.up, nullptr, ws_.up, size}},
                 .num_parts = 2,
                 .workspace = ws_.linear});
}

absl::Status Forward::SiluMul(uint32_t) { return absl::OkStatus(); }  // with GateUp

absl::Status Forward::Down(uint32_t layer_idx) {
  delta_ = ws_.delta;
  return Linear(compute_,
                {.x = ws_.gate,
                 .num_tokens = num_tokens_,
                 .in_features = config_.intermediate_size,
                 .parts = {{layer(layer_idx).down, nullptr, ws_.delta, config_.hidden_size}},
                 .num_parts = 1,
                 .workspace = ws_.linear});
}

absl::Status Forward::Logits(std::span<const uint32_t> token_idxs, float** logits) {
  MILI_CHECK(token_idxs.size() <= ws_.tile_rows, "the head is computed tile by tile");
  const size_t hidden = config_.hidden_size;
  for (size_t i = 0; i < token_idxs.size(); ++i) {
    const auto kept = std::lower_bound(kept_.begin(), kept_.end(), token_idxs[i]);
    MILI_CHECK(kept != kept_.end() && *kept == token_idxs[i], "an output of the step");
    const size_t from = (kept - kept_.begin()) * hidden;
    std::memcpy(ws_.tile_residual + i * hidden, ws_.residual + from, hidden * sizeof(float));
    std::memcpy(ws_.tile_delta + i * hidden, ws_.delta + from, hidden * sizeof(float));
  }
  const auto num_rows = static_cast<int64_t>(token_idxs.size());
  const kernels::AddRmsNormParams norm = {.residual = ws_.tile_residual,
                                          .delta = ws_.tile_delta,
                                          .weight = weights_.final_norm(),
                                          .eps = config_.rms_norm_eps,
                                          .num_tokens = num_rows,
                                          .hidden_size = config_.hidden_size,
                                          .out = ws_.tile_normed};
  *logits = ws_.logits;
  return Linear(compute_, {.x = ws_.tile_normed,
                           .norm = &norm,
                           .num_tokens = num_rows,
                           .in_features = config_.hidden_size,
                           .parts = {{weights_.head(), nullptr, ws_.logits, config_.vocab_size}},
                           .num_parts = 1,
                           .workspace = ws_.linear});
}

}  // namespace mili::worker

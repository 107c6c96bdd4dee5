#include "worker/model/forward.h"

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

absl::Status Forward::Run(const StepBatch& batch) {
  const int64_t num_tokens = batch.num_tokens();
  MILI_RETURN_IF_ERROR(Embed(compute_, {.table = weights_.embed(),
                                        .token_ids = batch.token_ids.data(),
                                        .num_tokens = num_tokens,
                                        .out = ws_.residual}));
  RopeTable(inv_freq_.data(), batch.positions.data(), num_tokens, config_.head_dim / 2,
            ws_.rope_cos, ws_.rope_sin, *compute_.pool);
  const float* delta = nullptr;  // what the block before adds
  for (uint32_t i = 0; i < config_.num_layers; ++i) {
    const LayerWeights& layer = weights_.layers()[i];
    MILI_RETURN_IF_ERROR(Norm(delta, layer.input_norm, num_tokens));
    MILI_RETURN_IF_ERROR(Attention(layer, i, batch));
    MILI_RETURN_IF_ERROR(Norm(ws_.delta, layer.post_attention_norm, num_tokens));
    MILI_RETURN_IF_ERROR(Mlp(layer, num_tokens));
    delta = ws_.delta;
  }
  return absl::OkStatus();  // residual + delta is the hidden state; Logits adds them
}

absl::Status Forward::Norm(const float* delta, const float* weight, int64_t num_tokens) {
  return AddRmsNorm(compute_, {.residual = ws_.residual,
                               .delta = delta,
                               .weight = weight,
                               .eps = config_.rms_norm_eps,
                               .num_tokens = num_tokens,
                               .hidden_size = config_.hidden_size,
                               .out = ws_.normed});
}

absl::Status Forward::Attention(const LayerWeights& layer, uint32_t layer_idx,
                                const StepBatch& batch) {
  const int64_t num_tokens = batch.num_tokens();
  const kernels::KvLayer kv = kv_.Layer(layer_idx);
  MILI_RETURN_IF_ERROR(
      Linear(compute_, {.x = ws_.normed,
                        .num_tokens = num_tokens,
                        .in_features = config_.hidden_size,
                        .parts = {{layer.q, layer.q_bias, ws_.q, config_.q_size()},
                                  {layer.k, layer.k_bias, ws_.k, config_.kv_size()},
                                  {layer.v, layer.v_bias, ws_.v, config_.kv_size()}},
                        .num_parts = 3,
                        .workspace = ws_.linear}));
  MILI_RETURN_IF_ERROR(QkvPrepare(compute_, {.q = ws_.q,
                                             .k = ws_.k,
                                             .v = ws_.v,
                                             .q_stride = config_.q_size(),
                                             .kv_stride = config_.kv_size(),
                                             .q_norm = layer.q_norm,
                                             .k_norm = layer.k_norm,
                                             .eps = config_.rms_norm_eps,
                                             .rope_cos = ws_.rope_cos,
                                             .rope_sin = ws_.rope_sin,
                                             .positions = ws_.row_numbers,
                                             .slot_map = batch.slot_map.data(),
                                             .num_tokens = num_tokens,
                                             .num_heads = config_.num_heads,
                                             .num_kv_heads = config_.num_kv_heads,
                                             .head_dim = config_.head_dim,
                                             .kv = kv}));
  MILI_RETURN_IF_ERROR(
      PagedAttention(compute_, {.q = ws_.q,
                                .q_stride = config_.q_size(),
                                .out = ws_.attention,
                                .cu_seqlens = batch.cu_seqlens.data(),
                                .context_lens = batch.context_lens.data(),
                                .page_table = batch.page_table.data(),
                                .page_table_stride = batch.page_table_stride,
                                .num_seqs = batch.num_rows(),
                                .num_heads = config_.num_heads,
                                .num_kv_heads = config_.num_kv_heads,
                                .head_dim = config_.head_dim,
                                .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                                .kv = kv}));
  return Linear(compute_, {.x = ws_.attention,
                           .num_tokens = num_tokens,
                           .in_features = config_.q_size(),
                           .parts = {{layer.o, nullptr, ws_.delta, config_.hidden_size}},
                           .num_parts = 1,
                           .workspace = ws_.linear});
}

absl::Status Forward::Mlp(const LayerWeights& layer, int64_t num_tokens) {
  const int64_t size = config_.intermediate_size;
  MILI_RETURN_IF_ERROR(Linear(compute_, {.x = ws_.normed,
                                         .num_tokens = num_tokens,
                                         .in_features = config_.hidden_size,
                                         .parts = {{layer.gate, nullptr, ws_.gate, size},
                                                   {layer.up, nullptr, ws_.up, size}},
                                         .num_parts = 2,
                                         .workspace = ws_.linear}));
  MILI_RETURN_IF_ERROR(SiluMul(
      compute_,
      {.gate = ws_.gate, .up = ws_.up, .num_tokens = num_tokens, .size = size, .out = ws_.gate}));
  return Linear(compute_, {.x = ws_.gate,
                           .num_tokens = num_tokens,
                           .in_features = size,
                           .parts = {{layer.down, nullptr, ws_.delta, config_.hidden_size}},
                           .num_parts = 1,
                           .workspace = ws_.linear});
}

absl::Status Forward::Logits(std::span<const uint32_t> token_idxs, float** logits) {
  MILI_CHECK(token_idxs.size() <= ws_.tile_rows, "the head is computed tile by tile");
  const size_t hidden = config_.hidden_size;
  for (size_t i = 0; i < token_idxs.size(); ++i) {
    const size_t from = token_idxs[i] * hidden;
    std::memcpy(ws_.tile_residual + i * hidden, ws_.residual + from, hidden * sizeof(float));
    std::memcpy(ws_.tile_delta + i * hidden, ws_.delta + from, hidden * sizeof(float));
  }
  const auto num_rows = static_cast<int64_t>(token_idxs.size());
  MILI_RETURN_IF_ERROR(AddRmsNorm(compute_, {.residual = ws_.tile_residual,
                                             .delta = ws_.tile_delta,
                                             .weight = weights_.final_norm(),
                                             .eps = config_.rms_norm_eps,
                                             .num_tokens = num_rows,
                                             .hidden_size = config_.hidden_size,
                                             .out = ws_.tile_normed}));
  *logits = ws_.logits;
  return Linear(compute_, {.x = ws_.tile_normed,
                           .num_tokens = num_rows,
                           .in_features = config_.hidden_size,
                           .parts = {{weights_.head(), nullptr, ws_.logits, config_.vocab_size}},
                           .num_parts = 1,
                           .workspace = ws_.linear});
}

}  // namespace mili::worker

// Attention of a step: of its decodes, of its prompts, or of both.
#include <cmath>

#include "common/base/status_macros.h"
#include "worker/model/cuda/cuda_model.h"

namespace mili::worker {

namespace k = gpu::k;

k::PagedKv CudaModel::Cache(uint32_t layer_idx, int32_t first_seq) const {
  return {.kv = Pages(layer_idx),
          .page_stride = int64_t{2} * kGpuPageSizeTokens * options_.config.kv_size(),
          .num_pages = static_cast<int32_t>(options_.plan.num_pages),
          .page_table = ws_.page_table + int64_t{first_seq} * ws_.page_table_stride,
          .page_table_stride = ws_.page_table_stride,
          .context_lens = ws_.context_lens + first_seq};
}

absl::Status CudaModel::Attention(uint32_t layer_idx) {
  if (layer_idx + 1 == options_.config.num_layers && !HasOutputs()) return absl::OkStatus();
  // Side by side, the prompts go first: decodes can start once all those run.
  const bool is_beside = shape_.num_varlen_sms > 0;
  if (shape_.num_decode > 0 && !is_beside) MILI_RETURN_IF_ERROR(AttentionOfDecodes(layer_idx));
  if (shape_.num_varlen > 0) MILI_RETURN_IF_ERROR(AttentionOfPrompts(layer_idx));
  return is_beside ? AttentionOfDecodes(layer_idx) : absl::OkStatus();
}

absl::Status CudaModel::AttentionOfDecodes(uint32_t layer_idx) {
  const ModelConfig& config = options_.config;
  const k::AttentionShape shape = AttentionShapeOf(config, dtype_);
  return gpu::DecodeAttention(
      {.shape = shape,
       .q = ws_.qkv,
       .q_stride = config.q_size() + 2 * config.kv_size(),
       .out = ws_.attention,
       .out_stride = config.q_size(),
       .cache = Cache(layer_idx, 0),
       .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim)),
       .plan = ws_.decode_plan,
       .grid = ws_.DecodeGridFor(shape_.num_decode, shape.num_kv_heads, shape_.num_varlen_sms),
       .workspace = ws_.attention_workspace,
       .pdl = pdl_,
       .is_beside = shape_.num_varlen_sms > 0},
      stream_);
}

absl::Status CudaModel::AttentionOfPrompts(uint32_t layer_idx) {
  const ModelConfig& config = options_.config;
  return gpu::VarlenAttention(
      {.shape = AttentionShapeOf(config, dtype_),
       .q = ws_.qkv,
       .q_stride = config.q_size() + 2 * config.kv_size(),
       .out = ws_.attention,
       .out_stride = config.q_size(),
       .cache = Cache(layer_idx, shape_.num_decode),
       .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim)),
       .plan = ws_.varlen_plan,
       .num_tiles = shape_.num_varlen_tiles,
       .num_sms = ws_.num_sms,
       .workspace = shape_.has_varlen_parts ? ws_.varlen_workspace : nullptr,
       .max_ctas = shape_.num_varlen_sms,
       .pdl = pdl_},
      stream_);
}

}  // namespace mili::worker

// Steps of few sequences with one token each, where one kernel does all layers.
#include <cmath>
#include <vector>

#include "common/base/status_macros.h"
#include "worker/model/cuda/cuda_model.h"

namespace mili::worker {

namespace k = gpu::k;
namespace {

k::DecodeLayersShape DecodeLayersShapeOf(const ModelConfig& config, DType dtype) {
  return {.dtype = dtype,
          .num_layers = static_cast<int32_t>(config.num_layers),
          .hidden_size = static_cast<int32_t>(config.hidden_size),
          .num_heads = static_cast<int32_t>(config.num_heads),
          .num_kv_heads = static_cast<int32_t>(config.num_kv_heads),
          .head_dim = static_cast<int32_t>(config.head_dim),
          .intermediate_size = static_cast<int32_t>(config.intermediate_size)};
}

// With 8 rows it loses where contexts are long (measured on an H100).
constexpr int32_t kMaxOneKernelRows = 4;
static_assert(kMaxOneKernelRows <= k::kMaxDecodeLayersRows);

}  // namespace

bool CudaModel::HasOneKernel() const {
  const ModelConfig& config = options_.config;
  const CudaLayerWeights& layer = weights_.layers()[0];
  const int32_t rows = shape_.num_tokens;
  if (shape_.num_decode != rows || rows > kMaxOneKernelRows || (rows & (rows - 1)) != 0 ||
      weights_.is_fp8() || layer.qkv_bias != nullptr || layer.q_norm == nullptr) {
    return false;
  }
  return k::HasDecodeLayers(DecodeLayersShapeOf(config, dtype_), ws_.num_sms,
                            options_.compute_capability);
}

absl::Status CudaModel::DecodeStep() {
  MILI_RETURN_IF_ERROR(Embed());
  const ModelConfig& config = options_.config;
  const k::PagedKv cache = Cache(0, 0);  // of its layer only the pages
  std::vector<k::DecodeLayer> layers;
  for (const CudaLayerWeights& layer : weights_.layers()) {
    layers.push_back({.input_norm = layer.input_norm,
                      .qkv = layer.qkv,
                      .q_norm = layer.q_norm,
                      .k_norm = layer.k_norm,
                      .o = layer.o,
                      .post_attention_norm = layer.post_attention_norm,
                      .gate_up = layer.gate_up,
                      .down = layer.down,
                      .pages = Pages(static_cast<uint32_t>(layers.size()))});
  }
  return gpu::DecodeLayers({.shape = DecodeLayersShapeOf(config, dtype_),
                            .layers = layers.data(),
                            .num_rows = shape_.num_tokens,
                            .eps = config.rms_norm_eps,
                            .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim)),
                            .residual = ws_.residual,
                            .rope_cos = ws_.rope_cos,
                            .rope_sin = ws_.rope_sin,
                            .positions = ws_.positions,
                            .slot_map = ws_.slot_map,
                            .page_table = cache.page_table,
                            .page_table_stride = cache.page_table_stride,
                            .context_lens = cache.context_lens,
                            .page_stride = cache.page_stride,
                            .workspace = ws_.decode_layers_workspace,
                            .pdl = pdl_},
                           stream_);
}

}  // namespace mili::worker

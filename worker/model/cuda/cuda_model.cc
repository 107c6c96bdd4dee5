#include "worker/model/cuda/cuda_model.h"

#include <algorithm>
#include <utility>

#include "common/base/status_macros.h"
#include "worker/model/cuda/kv_ahead.h"

namespace mili::worker {

namespace k = gpu::k;
namespace {

// Up to so many tokens a product that norms its rows is faster than a kernel for that and the
// product (measured on an H100).
constexpr int32_t kMaxNormedTokens = 8;

// From so many tokens on it pays to go on without those that are neither sampled nor scored.
constexpr int32_t kMinTokensToDrop = 64;

}  // namespace

CudaModel::CudaModel(Options options, CudaWeights weights)
    : options_(std::move(options)),
      weights_(std::move(weights)),
      dtype_(weights_.dtype()),
      pdl_(options_.has_early_starts && options_.compute_capability >= 90) {}

absl::StatusOr<std::unique_ptr<CudaModel>> CudaModel::Create(Options options, CudaWeights weights) {
  if (options.num_valid_tokens == 0) options.num_valid_tokens = options.config.vocab_size;
  options.num_valid_tokens = std::min(options.num_valid_tokens, options.config.vocab_size);
  auto model = std::unique_ptr<CudaModel>(new CudaModel(std::move(options), std::move(weights)));
  MILI_RETURN_IF_ERROR(model->Allocate());
  return model;
}

absl::Status CudaModel::Allocate() {
  const ModelConfig& config = options_.config;
  MILI_ASSIGN_OR_RETURN(stream_, CudaStream::Create());
  MILI_ASSIGN_OR_RETURN(linear_, gpu::OpenLinear(kGpuLinearWorkspaceBytes));
  if (HasHeadKernel()) MILI_RETURN_IF_ERROR(gpu::PrepareHead());
  MILI_ASSIGN_OR_RETURN(
      kv_, CudaMemory::Allocate(options_.plan.kv_bytes, "the KV cache (--kv-cache-memory-bytes)"));
  MILI_ASSIGN_OR_RETURN(ws_, CudaWorkspace::Allocate(config, options_.plan, options_.num_sms));
  ws_.has_side_by_side = pdl_ && options_.compute_capability / 10 == 9;
  LinearTuningOptions tuning = options_.tuning;
  tuning.pdl = pdl_;
  MILI_ASSIGN_OR_RETURN(
      tuning_, TuneLinear(config, options_.plan, weights_, ws_, tuning, linear_.get(), &stream_));
  // Attention's workspace and slots must start from zero; the rest may as well.
  MILI_RETURN_IF_ERROR(stream_.Zero(ws_.memory.data(), ws_.memory.size_bytes()));
  const std::vector<float> inv_freq = RopeInverseFrequencies(config);
  // On its way through an array that no step uses yet.
  float* const place = ws_.logits;
  MILI_RETURN_IF_ERROR(
      stream_.CopyToDevice(place, inv_freq.data(), inv_freq.size() * sizeof(float)));
  MILI_RETURN_IF_ERROR(
      gpu::RopeTable({.inv_freq = place,
                      .num_positions = static_cast<int32_t>(options_.plan.max_model_len),
                      .num_pairs = static_cast<int32_t>(config.head_dim / 2),
                      .cos = ws_.rope_cos,
                      .sin = ws_.rope_sin},
                     stream_));
  return stream_.Synchronize();
}

absl::Status CudaModel::RunStep(const CudaStepShape& shape) {
  shape_ = shape;
  num_rows_ = shape.num_tokens;
  residual_ = ws_.residual;
  normed_ = ws_.normed;
  attention_ = ws_.attention;
  head_rows_ = ws_.head_rows;
  MILI_RETURN_IF_ERROR(HasOneKernel() ? DecodeStep()
                                      : RunLayers(*this, options_.config.num_layers));
  return shape.num_head_rows > 0 ? SampleRows() : absl::OkStatus();
}

absl::Status CudaModel::Embed() {
  const ModelConfig& config = options_.config;
  const bool norms = QkvParams(0).norm_weight == nullptr;  // else the first product does
  return gpu::Embed({.dtype = dtype_,
                     .table = weights_.embed(),
                     .token_ids = ws_.token_ids,
                     .feed_slots = ws_.feed_slots,
                     .last_tokens = ws_.last_tokens,
                     .num_tokens = num_rows_,
                     .vocab_size = static_cast<int32_t>(config.vocab_size),
                     .hidden_size = static_cast<int32_t>(config.hidden_size),
                     .out = residual_,
                     .norm_weight = norms ? weights_.layers()[0].input_norm : nullptr,
                     .eps = config.rms_norm_eps,
                     .normed = TakesFp8Rows() ? nullptr : normed_,
                     .fp8 = Fp8Output()},
                    stream_);
}

absl::Status CudaModel::InputNorm(uint32_t layer_idx) {
  // Done with the embedding, or left to the product.
  if (layer_idx == 0 || QkvParams(layer_idx).norm_weight != nullptr) return absl::OkStatus();
  return Norm(weights_.layers()[layer_idx].input_norm);
}

absl::Status CudaModel::MlpNorm(uint32_t layer_idx) {
  if (GateUpParams(layer_idx).norm_weight != nullptr) return absl::OkStatus();
  return Norm(weights_.layers()[layer_idx].post_attention_norm);
}

absl::Status CudaModel::Norm(const void* weight) {
  return gpu::AddRmsNorm({.dtype = dtype_,
                          .residual = residual_,
                          .weight = weight,
                          .eps = options_.config.rms_norm_eps,
                          .num_tokens = num_rows_,
                          .hidden_size = static_cast<int32_t>(options_.config.hidden_size),
                          .out = TakesFp8Rows() ? nullptr : normed_,
                          .fp8 = Fp8Output(),
                          .pdl = pdl_},
                         stream_);
}

bool CudaModel::TakesFp8Rows() const { return weights_.is_fp8() && num_rows_ > k::kMaxMixedRows; }

k::Fp8Rows CudaModel::Fp8Output() const {
  return TakesFp8Rows() ? k::Fp8Rows{ws_.fp8_rows, ws_.fp8_scales} : k::Fp8Rows{};
}

absl::Status CudaModel::Quantize(const void* rows, int64_t size) {
  if (!TakesFp8Rows()) return absl::OkStatus();
  return gpu::QuantizeFp8({.dtype = dtype_,
                           .in = rows,
                           .in_stride = size,
                           .num_rows = num_rows_,
                           .size = static_cast<int32_t>(size),
                           .out = Fp8Output(),
                           .pdl = pdl_},
                          stream_);
}

absl::Status CudaModel::AddProduct(const void* x, int64_t k, const void* w, const float* w_scales) {
  const int64_t n = options_.config.hidden_size;
  return gpu::Linear(*linear_,
                     {.dtype = dtype_,
                      .x = TakesFp8Rows() ? ws_.fp8_rows : x,
                      .x_stride = k,
                      .w = w,
                      .add = residual_,
                      .add_stride = n,
                      .y = residual_,
                      .y_stride = n,
                      .num_rows = num_rows_,
                      .n = static_cast<int32_t>(n),
                      .k = static_cast<int32_t>(k),
                      .w_scales = w_scales,
                      .x_scales = Fp8Output().scales,
                      .pdl = pdl_},
                     stream_);
}

k::LinearParams CudaModel::NormedProduct(const void* norm, const void* w, const float* w_scales,
                                         int64_t n, void* y) const {
  const ModelConfig& config = options_.config;
  k::LinearParams params{.dtype = dtype_,
                         .x = TakesFp8Rows() ? ws_.fp8_rows : normed_,
                         .x_stride = config.hidden_size,
                         .w = w,
                         .y = y,
                         .y_stride = n,
                         .num_rows = num_rows_,
                         .n = static_cast<int32_t>(n),
                         .k = static_cast<int32_t>(config.hidden_size),
                         .w_scales = w_scales,
                         .x_scales = Fp8Output().scales,
                         .pdl = pdl_};
  if (num_rows_ <= kMaxNormedTokens && linear_->FusesNorm(params)) {
    params.x = residual_;
    params.norm_weight = norm;
    params.norm_eps = config.rms_norm_eps;
  }
  return params;
}

k::LinearParams CudaModel::QkvParams(uint32_t layer_idx) const {
  const ModelConfig& config = options_.config;
  const CudaLayerWeights& layer = weights_.layers()[layer_idx];
  return NormedProduct(layer.input_norm, layer.qkv, layer.qkv_scales,
                       config.q_size() + 2 * config.kv_size(), ws_.qkv);
}

absl::Status CudaModel::Qkv(uint32_t layer_idx) {
  return gpu::Linear(*linear_, QkvParams(layer_idx), stream_);
}

absl::Status CudaModel::QkvPrepare(uint32_t layer_idx) {
  const ModelConfig& config = options_.config;
  const CudaLayerWeights& layer = weights_.layers()[layer_idx];
  return gpu::QkvPrepare({.dtype = dtype_,
                          .qkv = ws_.qkv,
                          .qkv_stride = config.q_size() + 2 * config.kv_size(),
                          .bias = layer.qkv_bias,
                          .q_norm = layer.q_norm,
                          .k_norm = layer.k_norm,
                          .eps = config.rms_norm_eps,
                          .rope_cos = ws_.rope_cos,
                          .rope_sin = ws_.rope_sin,
                          .positions = ws_.positions,
                          .slot_map = ws_.slot_map,
                          .num_tokens = num_rows_,
                          .num_heads = static_cast<int32_t>(config.num_heads),
                          .num_kv_heads = static_cast<int32_t>(config.num_kv_heads),
                          .head_dim = static_cast<int32_t>(config.head_dim),
                          .pages = Pages(layer_idx),
                          .page_stride = int64_t{2} * kGpuPageSizeTokens * config.kv_size(),
                          .ahead = KvAheadOf(config, ws_, shape_, weights_.is_fp8()),
                          .pdl = pdl_},
                         stream_);
}

std::byte* CudaModel::Pages(uint32_t layer_idx) const {
  return kv_.data() + layer_idx * (options_.plan.kv_bytes / options_.config.num_layers);
}

absl::Status CudaModel::AttentionOutput(uint32_t layer_idx) {
  const ModelConfig& config = options_.config;
  const CudaLayerWeights& layer = weights_.layers()[layer_idx];
  MILI_RETURN_IF_ERROR(Quantize(attention_, config.q_size()));
  return AddProduct(attention_, config.q_size(), layer.o, layer.o_scales);
}

absl::Status CudaModel::KeepOutputs() {
  if (shape_.has_scores || num_rows_ < kMinTokensToDrop || shape_.num_head_rows >= num_rows_) {
    return absl::OkStatus();
  }
  // A lookup of rows by number is what an embedding is.
  const auto gather = [&](const void* from, int64_t size, void* to) {
    return gpu::Embed({.dtype = dtype_,
                       .table = from,
                       .token_ids = ws_.head_rows,
                       .num_tokens = shape_.num_head_rows,
                       .vocab_size = shape_.num_tokens,
                       .hidden_size = static_cast<int32_t>(size),
                       .out = to,
                       .pdl = pdl_},
                      stream_);
  };
  // To where qkv and the normed rows were, which nobody reads any more.
  MILI_RETURN_IF_ERROR(gather(ws_.attention, options_.config.q_size(), ws_.qkv));
  MILI_RETURN_IF_ERROR(gather(ws_.residual, options_.config.hidden_size, ws_.normed));
  attention_ = ws_.qkv;
  residual_ = ws_.normed;
  normed_ = ws_.residual;
  num_rows_ = shape_.num_head_rows;
  head_rows_ = nullptr;  // all in order
  return absl::OkStatus();
}

k::LinearParams CudaModel::GateUpParams(uint32_t layer_idx) const {
  const int64_t size = options_.config.intermediate_size;
  const CudaLayerWeights& layer = weights_.layers()[layer_idx];
  k::LinearParams params = NormedProduct(layer.post_attention_norm, layer.gate_up,
                                         layer.gate_up_scales, 2 * size, ws_.gate_up);
  if (linear_->FusesSiluMul(params)) {
    params.silu_mul = true;
    params.y = ws_.activation;
    params.y_stride = size;
  }
  return params;
}

absl::Status CudaModel::GateUp(uint32_t layer_idx) {
  return gpu::Linear(*linear_, GateUpParams(layer_idx), stream_);
}

absl::Status CudaModel::SiluMul(uint32_t layer_idx) {
  if (GateUpParams(layer_idx).silu_mul) {  // done with the product
    return Quantize(ws_.activation, options_.config.intermediate_size);
  }
  return gpu::SiluMul({.dtype = dtype_,
                       .gate_up = ws_.gate_up,
                       .num_tokens = num_rows_,
                       .size = static_cast<int32_t>(options_.config.intermediate_size),
                       .out = TakesFp8Rows() ? nullptr : ws_.activation,
                       .fp8 = Fp8Output(),
                       .pdl = pdl_},
                      stream_);
}

absl::Status CudaModel::Down(uint32_t layer_idx) {
  const ModelConfig& config = options_.config;
  const CudaLayerWeights& layer = weights_.layers()[layer_idx];
  return AddProduct(ws_.activation, config.intermediate_size, layer.down, layer.down_scales);
}

}  // namespace mili::worker

// The end of a step: from the residual stream to sampled tokens and scores.
#include "common/base/status_macros.h"
#include "worker/model/cuda/cuda_model.h"

namespace mili::worker {

namespace k = gpu::k;
namespace {

// With fewer rows the product and a scan of its logits are faster (measured on an H100).
constexpr int32_t kMinHeadRows = 17;

}  // namespace

bool CudaModel::HasHeadKernel() const {
  return options_.compute_capability / 10 == 9 &&
         k::HasHead(static_cast<int32_t>(options_.config.vocab_size),
                    static_cast<int32_t>(options_.config.hidden_size));
}

absl::Status CudaModel::FinalNorm(const int32_t* row_idxs, int32_t num_rows) {
  const ModelConfig& config = options_.config;
  return gpu::AddRmsNorm({.dtype = dtype_,
                          .residual = residual_,
                          .weight = weights_.final_norm(),
                          .row_idxs = row_idxs,
                          .eps = config.rms_norm_eps,
                          .num_tokens = num_rows,
                          .hidden_size = static_cast<int32_t>(config.hidden_size),
                          .out = ws_.head_normed,
                          .pdl = pdl_},
                         stream_);
}

absl::Status CudaModel::Logits(int32_t num_rows) {
  const ModelConfig& config = options_.config;
  return gpu::Linear(*linear_,
                     {.dtype = dtype_,
                      .is_y_f32 = true,
                      .x = ws_.head_normed,
                      .x_stride = config.hidden_size,
                      .w = weights_.head(),
                      .y = ws_.logits,
                      .y_stride = config.vocab_size,
                      .num_rows = num_rows,
                      .n = static_cast<int32_t>(config.vocab_size),
                      .k = static_cast<int32_t>(config.hidden_size),
                      .pdl = pdl_},
                     stream_);
}

absl::Status CudaModel::SampleRows() {
  const int32_t num_rows = shape_.num_head_rows;
  const auto vocab_size = static_cast<int32_t>(options_.config.vocab_size);
  const auto num_valid_tokens = static_cast<int32_t>(options_.num_valid_tokens);
  const bool finds_best =
      HasHeadKernel() && num_rows >= kMinHeadRows && num_rows <= k::kMaxHeadRows;
  MILI_RETURN_IF_ERROR(FinalNorm(head_rows_, num_rows));
  if (finds_best) {
    MILI_RETURN_IF_ERROR(gpu::Head({.dtype = dtype_,
                                    .x = ws_.head_normed,
                                    .x_stride = options_.config.hidden_size,
                                    .w = weights_.head(),
                                    .num_rows = num_rows,
                                    .vocab_size = vocab_size,
                                    .num_valid_tokens = num_valid_tokens,
                                    .k = static_cast<int32_t>(options_.config.hidden_size),
                                    .row_slots = ws_.head_slots,
                                    .slots = ws_.slots,
                                    .logits = ws_.logits,
                                    .logits_stride = vocab_size,
                                    .best = ws_.head_best,
                                    .pdl = pdl_},
                                   ws_.num_sms, stream_));
  } else {
    MILI_RETURN_IF_ERROR(Logits(num_rows));
  }
  return gpu::Sample({.logits = ws_.logits,
                      .logits_stride = vocab_size,
                      .best = finds_best ? ws_.head_best : nullptr,
                      .num_best = k::HeadParts(ws_.num_sms, vocab_size),
                      .num_rows = num_rows,
                      .vocab_size = vocab_size,
                      .num_valid_tokens = num_valid_tokens,
                      .row_slots = ws_.head_slots,
                      .positions = ws_.head_positions,
                      .slots = ws_.slots,
                      .last_tokens = ws_.last_tokens,
                      .out_at = ws_.sampled_at,
                      .top = shape_.max_top > 0 ? ws_.top : nullptr,
                      .max_top = shape_.max_top,
                      .workspace = ws_.sample_workspace,
                      .pdl = pdl_},
                     stream_);
}

absl::Status CudaModel::Score(int32_t first, int32_t count, k::SampledLogprob* top,
                              int32_t max_top) {
  MILI_RETURN_IF_ERROR(FinalNorm(ws_.score_rows + first, count));
  MILI_RETURN_IF_ERROR(Logits(count));
  return gpu::Score({.logits = ws_.logits,
                     .logits_stride = options_.config.vocab_size,
                     .num_rows = count,
                     .vocab_size = static_cast<int32_t>(options_.config.vocab_size),
                     .targets = ws_.score_targets + first,
                     .num_top = ws_.score_num_top + first,
                     .out = ws_.scored + first,
                     .top = max_top > 0 ? top : nullptr,
                     .max_top = max_top,
                     .workspace = ws_.sample_workspace,
                     .pdl = pdl_},
                    stream_);
}

}  // namespace mili::worker

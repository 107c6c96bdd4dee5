// The ops of a step on a GPU: each enqueues one kernel of kernels/cuda and turns what the launch
// says into a Status that names op, shape and dtype. A shape that a kernel refuses is our bug. One
// thread at a time.
#pragma once

#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "kernels/cuda/attention/paged_attention.h"
#include "kernels/cuda/decode_layers/decode_layers.h"
#include "kernels/cuda/embed/embed.h"
#include "kernels/cuda/head/head.h"
#include "kernels/cuda/linear/linear.h"
#include "kernels/cuda/linear/tuning_file.h"
#include "kernels/cuda/norm/add_rms_norm.h"
#include "kernels/cuda/qkv_prepare/qkv_prepare.h"
#include "kernels/cuda/quantize/quantize_fp8.h"
#include "kernels/cuda/sample/sample.h"
#include "kernels/cuda/silu/silu_mul.h"
#include "kernels/cuda/step/step.h"
#include "worker/device/cuda/cuda_stream.h"

namespace mili::worker::gpu {

namespace k = kernels::cuda;

// UNAVAILABLE with the remedy if cublasLt is not there.
absl::StatusOr<std::unique_ptr<k::LinearContext>> OpenLinear(size_t workspace_bytes);

absl::Status LayOutStep(const k::LayOutStepParams& params, CudaStream& stream);
absl::Status RopeTable(const k::RopeTableParams& params, CudaStream& stream);
absl::Status Embed(const k::EmbedParams& params, CudaStream& stream);
absl::Status AddRmsNorm(const k::AddRmsNormParams& params, CudaStream& stream);
absl::Status Linear(k::LinearContext& context, const k::LinearParams& params, CudaStream& stream);
absl::Status QkvPrepare(const k::QkvPrepareParams& params, CudaStream& stream);
absl::Status DecodeAttention(const k::DecodeAttentionParams& params, CudaStream& stream);
absl::Status DecodeLayers(const k::DecodeLayersParams& params, CudaStream& stream);
absl::Status VarlenAttention(const k::VarlenAttentionParams& params, CudaStream& stream);
absl::Status SiluMul(const k::SiluMulParams& params, CudaStream& stream);
absl::Status QuantizeFp8(const k::QuantizeFp8Params& params, CudaStream& stream);
absl::Status PrepareHead();
absl::Status Head(const k::HeadParams& params, int32_t num_sms, CudaStream& stream);
absl::Status Sample(const k::SampleParams& params, CudaStream& stream);
absl::Status Score(const k::ScoreParams& params, CudaStream& stream);
absl::Status FillCounts(const k::FillCountsParams& params, CudaStream& stream);

}  // namespace mili::worker::gpu

#include "worker/ops/cuda/cuda_ops.h"

#include <absl/strings/str_cat.h>

#include "common/base/strings.h"
#include "worker/device/cuda/cuda_status.h"

namespace mili::worker::gpu {
namespace {

// The text is made for an error only.
template <typename... Facts>
absl::Status Explain(cudaError_t error, const char* op, const Facts&... facts) {
  if (error == cudaSuccess) return absl::OkStatus();
  return ToStatus(error, absl::StrCat(op, " (", facts..., ")").c_str());
}

absl::string_view Name(DType dtype) { return ToAbsl(NameOf(dtype)); }

}  // namespace

absl::StatusOr<std::unique_ptr<k::LinearContext>> OpenLinear(size_t workspace_bytes) {
  std::string error;
  std::unique_ptr<k::LinearContext> context =
      k::LinearContext::Create({.workspace_bytes = workspace_bytes}, &error);
  if (context == nullptr) return absl::UnavailableError(error);
  return context;
}

absl::Status LayOutStep(const k::LayOutStepParams& params, CudaStream& stream) {
  return Explain(k::LayOutStep(params, stream.get()), "LayOutStep", params.num_segments,
                 " arrays, ", params.num_seqs, " sequences");
}

absl::Status RopeTable(const k::RopeTableParams& params, CudaStream& stream) {
  return Explain(k::RopeTable(params, stream.get()), "RopeTable", params.num_positions, " x ",
                 params.num_pairs);
}

absl::Status Embed(const k::EmbedParams& params, CudaStream& stream) {
  return Explain(k::Embed(params, stream.get()), "Embed", params.num_tokens, " rows of ",
                 params.hidden_size, " ", Name(params.dtype));
}

absl::Status AddRmsNorm(const k::AddRmsNormParams& params, CudaStream& stream) {
  return Explain(k::AddRmsNorm(params, stream.get()), "AddRmsNorm", params.num_tokens, " rows of ",
                 params.hidden_size, " ", Name(params.dtype));
}

absl::Status Linear(k::LinearContext& context, const k::LinearParams& params, CudaStream& stream) {
  return Explain(context.Linear(params, stream.get()), "Linear", params.num_rows, " rows, ",
                 params.k, " to ", params.n, " ", Name(params.dtype));
}

absl::Status QkvPrepare(const k::QkvPrepareParams& params, CudaStream& stream) {
  return Explain(k::QkvPrepare(params, stream.get()), "QkvPrepare", params.num_tokens, " rows, ",
                 params.num_heads, " + 2 x ", params.num_kv_heads, " heads of ", params.head_dim,
                 " ", Name(params.dtype));
}

absl::Status DecodeAttention(const k::DecodeAttentionParams& params, CudaStream& stream) {
  return Explain(k::DecodeAttention(params, stream.get()), "DecodeAttention",
                 params.shape.num_heads, " on ", params.shape.num_kv_heads, " heads of ",
                 params.shape.head_dim, " ", Name(params.shape.dtype));
}

absl::Status DecodeLayers(const k::DecodeLayersParams& params, CudaStream& stream) {
  return Explain(k::DecodeLayers(params, stream.get()), "DecodeLayers", params.num_rows, " rows, ",
                 params.shape.num_layers, " layers of ", params.shape.hidden_size, " ",
                 Name(params.shape.dtype));
}

absl::Status VarlenAttention(const k::VarlenAttentionParams& params, CudaStream& stream) {
  return Explain(k::VarlenAttention(params, stream.get()), "VarlenAttention", params.num_tiles,
                 " tiles, ", params.shape.num_heads, " on ", params.shape.num_kv_heads,
                 " heads of ", params.shape.head_dim, " ", Name(params.shape.dtype));
}

absl::Status SiluMul(const k::SiluMulParams& params, CudaStream& stream) {
  return Explain(k::SiluMul(params, stream.get()), "SiluMul", params.num_tokens, " rows of ",
                 params.size, " ", Name(params.dtype));
}

absl::Status QuantizeFp8(const k::QuantizeFp8Params& params, CudaStream& stream) {
  return Explain(k::QuantizeFp8(params, stream.get()), "QuantizeFp8", params.num_rows, " rows of ",
                 params.size, " ", Name(params.dtype));
}

absl::Status PrepareHead() { return Explain(k::PrepareHead(), "loading the head's kernel"); }

absl::Status Head(const k::HeadParams& params, int32_t num_sms, CudaStream& stream) {
  return Explain(k::Head(params, num_sms, stream.get()), "Head", params.num_rows, " rows, ",
                 params.k, " to ", params.vocab_size, " ", Name(params.dtype));
}

absl::Status Sample(const k::SampleParams& params, CudaStream& stream) {
  return Explain(k::Sample(params, stream.get()), "Sample", params.num_rows, " rows of ",
                 params.vocab_size);
}

absl::Status Score(const k::ScoreParams& params, CudaStream& stream) {
  return Explain(k::Score(params, stream.get()), "Score", params.num_rows, " rows of ",
                 params.vocab_size);
}

absl::Status FillCounts(const k::FillCountsParams& params, CudaStream& stream) {
  return Explain(k::FillCounts(params, stream.get()), "FillCounts", params.num_entries,
                 " entries of ", params.vocab_size);
}

}  // namespace mili::worker::gpu

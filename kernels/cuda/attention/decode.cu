#include "kernels/cuda/attention/decode.cuh"
#include "kernels/cuda/attention/shape.h"

namespace mili::kernels::cuda {
namespace {

template <typename E, int kHeadDim>
cudaError_t LaunchForGroup(const DecodeArgs& args, const DecodeAttentionParams& params,
                           cudaStream_t stream) {
  if (args.group > kHeadsPerTile) {
    return LaunchDecode<E, kHeadDim, 2>(args, params.grid, params.pdl, stream);
  }
  return LaunchDecode<E, kHeadDim, 1>(args, params.grid, params.pdl, stream);
}

template <typename E>
cudaError_t LaunchForHeadDim(const DecodeArgs& args, const DecodeAttentionParams& params,
                             cudaStream_t stream) {
  if (params.shape.head_dim == 64) return LaunchForGroup<E, 64>(args, params, stream);
  return LaunchForGroup<E, 128>(args, params, stream);
}

}  // namespace

size_t DecodeWorkspaceBytes(const AttentionShape& shape, int32_t num_ctas) {
  const int32_t part = PartFloats(GroupOf(shape), shape.head_dim);
  return static_cast<size_t>(num_ctas) * 2 * part * sizeof(float);
}

cudaError_t DecodeAttention(const DecodeAttentionParams& params, cudaStream_t stream) {
  const AttentionShape& shape = params.shape;
  const bool is_grid =
      params.grid.num_warps == kDecodeWarps || params.grid.num_warps == kManyDecodeWarps;
  if (!IsSupported(shape) || !is_grid || params.grid.num_ctas <= 0 || params.plan == nullptr ||
      params.workspace == nullptr || (params.is_beside && !params.pdl)) {
    return cudaErrorInvalidValue;
  }
  DecodeArgs args = {};
  args.q = params.q;
  args.out = params.out;
  args.kv = params.cache.kv;
  args.page_table = params.cache.page_table;
  args.context_lens = params.cache.context_lens;
  args.plan = reinterpret_cast<const DecodePlanHeader*>(params.plan);
  args.parts = static_cast<float*>(params.workspace);
  args.q_stride = params.q_stride;
  args.out_stride = params.out_stride;
  args.page_stride = params.cache.page_stride;
  args.page_table_stride = params.cache.page_table_stride;
  args.num_kv_heads = shape.num_kv_heads;
  args.group = GroupOf(shape);
  args.scale_log2 = params.scale * kLog2E;
  args.is_beside = params.is_beside;
  if (shape.dtype == DType::kF16) return LaunchForHeadDim<F16>(args, params, stream);
  return LaunchForHeadDim<Bf16>(args, params, stream);
}

}  // namespace mili::kernels::cuda

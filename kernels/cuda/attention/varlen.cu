#include <cuda.h>

#include "kernels/cuda/attention/shape.h"
#include "kernels/cuda/attention/varlen_hopper.cuh"
#include "kernels/cuda/attention/varlen_portable.cuh"
#include "kernels/cuda/common/tensor_map_encoder.h"

namespace mili::kernels::cuda {
namespace {

// A tensor of [page][K heads, then V heads][token of the page][head_dim], boxes of 16 tokens by 64
// elements, written to shared memory with the 128-byte swizzle.
cudaError_t EncodePagedKv(const VarlenAttentionParams& params, CUtensorMap* map) {
  TensorMapEncoder encode = nullptr;
  const cudaError_t error = FindTensorMapEncoder(&encode);
  if (error != cudaSuccess) return error;
  const auto dim = static_cast<cuuint64_t>(params.shape.head_dim);
  const cuuint64_t sizes[4] = {dim, kPageTokens,
                               static_cast<cuuint64_t>(2 * params.shape.num_kv_heads),
                               static_cast<cuuint64_t>(params.cache.num_pages)};
  const cuuint64_t strides[3] = {dim * 2, dim * 2 * kPageTokens,
                                 static_cast<cuuint64_t>(params.cache.page_stride) * 2};
  const cuuint32_t box[4] = {64, kPageTokens, 1, 1};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  const CUresult result =
      encode(map,
             params.shape.dtype == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                               : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
             4, const_cast<void*>(params.cache.kv), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// The current GPU.
struct Device {
  int major = 0;  // compute capability
  int num_sms = 0;
};
cudaError_t GetDevice(Device* device) {
  int id = 0;
  cudaError_t error = cudaGetDevice(&id);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&device->major, cudaDevAttrComputeCapabilityMajor, id);
  }
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&device->num_sms, cudaDevAttrMultiProcessorCount, id);
  }
  return error;
}

template <typename E, int kHeadDim>
cudaError_t LaunchVarlen(const VarlenArgs& args, const VarlenAttentionParams& params,
                         cudaStream_t stream) {
  Device device;
  cudaError_t error = GetDevice(&device);
  if (error != cudaSuccess) return error;
  if (params.is_portable || device.major != 9) {
    return LaunchVarlenPortable<E, kHeadDim>(args, params.pdl, stream);
  }
  CUtensorMap map;
  error = EncodePagedKv(params, &map);
  if (error != cudaSuccess) return error;
  const int32_t max_ctas = params.max_ctas > 0 ? params.max_ctas : device.num_sms;
  return LaunchVarlenHopper<E, kHeadDim>(args, map, max_ctas, params.pdl, stream);
}

template <typename E>
cudaError_t LaunchForHeadDim(const VarlenArgs& args, const VarlenAttentionParams& params,
                             cudaStream_t stream) {
  if (params.shape.head_dim == 64) return LaunchVarlen<E, 64>(args, params, stream);
  return LaunchVarlen<E, 128>(args, params, stream);
}

}  // namespace

// Flags, then sums (varlen_parts.cuh): a float4 for each thread of a half and each 8 elements of a
// head, and one more.
size_t VarlenWorkspaceBytes(const AttentionShape& shape, int32_t num_sms) {
  const size_t num_halves = size_t{2} * num_sms;
  return VarlenFlagBytes(num_sms) + num_halves * 128 * 16 * (shape.head_dim / 8 + 1);
}

cudaError_t VarlenAttention(const VarlenAttentionParams& params, cudaStream_t stream) {
  const AttentionShape& shape = params.shape;
  if (!IsSupported(shape) || params.num_tiles <= 0 || params.plan == nullptr) {
    return cudaErrorInvalidValue;
  }
  VarlenArgs args = {};
  args.q = params.q;
  args.out = params.out;
  args.kv = params.cache.kv;
  args.page_table = params.cache.page_table;
  args.plan = reinterpret_cast<const VarlenTile*>(params.plan);
  if (params.workspace != nullptr) {
    args.part_flags = static_cast<int32_t*>(params.workspace);
    args.parts = static_cast<std::byte*>(params.workspace) + VarlenFlagBytes(params.num_sms);
  }
  args.q_stride = params.q_stride;
  args.out_stride = params.out_stride;
  args.page_stride = params.cache.page_stride;
  args.page_table_stride = params.cache.page_table_stride;
  args.num_pages = params.cache.num_pages;
  args.num_kv_heads = shape.num_kv_heads;
  args.num_tiles = params.num_tiles;
  args.group = GroupOf(shape);
  args.scale_log2 = params.scale * kLog2E;
  if (shape.dtype == DType::kF16) return LaunchForHeadDim<F16>(args, params, stream);
  return LaunchForHeadDim<Bf16>(args, params, stream);
}

}  // namespace mili::kernels::cuda

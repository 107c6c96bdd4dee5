#include <algorithm>

#include "kernels/cuda/linear/gated.h"
#include "kernels/cuda/linear/gated_kernel.cuh"
#include "kernels/cuda/linear/tensor_map.h"

namespace mili::kernels::cuda {
namespace {

using GatedKernel = void (*)(GatedArgs);

int DivideUp(int a, int b) { return (a + b - 1) / b; }

template <int kGroups, bool kOnce>
GatedKernel KernelOf(DType dtype) {
  return dtype == DType::kBF16 ? GatedLinearKernel<GatedTile<Bf16, kGroups, kOnce>>
                               : GatedLinearKernel<GatedTile<F16, kGroups, kOnce>>;
}

GatedKernel KernelFor(DType dtype, int groups, bool reads_once) {
  if (groups == 2) return KernelOf<2, false>(dtype);  // nowhere the faster one with few tokens
  return reads_once ? KernelOf<3, true>(dtype) : KernelOf<3, false>(dtype);
}

int SharedBytes(int groups) {
  return groups == 3 ? GatedTile<Bf16, 3>::kSharedBytes : GatedTile<Bf16, 2>::kSharedBytes;
}

cudaError_t MakeMaps(const LinearParams& p, int groups, GatedArgs* args) {
  BoxedMatrix matrix;
  matrix.type =
      p.dtype == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  matrix.columns = p.k;
  matrix.box_columns = kGatedChunk;
  matrix.is_swizzled = true;
  BoxedMatrix w = matrix;
  w.data = p.w;
  w.rows = p.n;
  w.stride = p.k;
  w.box_rows = groups * 64;
  BoxedMatrix x = matrix;
  x.data = p.x;
  x.rows = p.num_rows;
  x.stride = p.x_stride;
  x.box_rows = kGatedTokens / 2;
  BoxedMatrix y = matrix;
  y.data = p.y;
  y.rows = p.num_rows;
  y.columns = p.n / 2;
  y.stride = p.y_stride;
  y.box_rows = kGatedTokens;
  y.box_columns = 32;
  y.is_swizzled = false;
  cudaError_t error = MakeTensorMap(w, &args->w_map);
  if (error == cudaSuccess) error = MakeTensorMap(x, &args->x_map);
  if (error == cudaSuccess) error = MakeTensorMap(y, &args->y_map);
  return error;
}

}  // namespace

bool IsGatedTile(int32_t groups) { return groups == 2 || groups == 3; }

float GatedTilesFilled(int32_t num_rows) {
  return static_cast<float>(num_rows) /
         static_cast<float>(DivideUp(num_rows, kGatedTokens) * kGatedTokens);
}

bool GatedTakes(const LinearParams& p) {
  if (p.dtype != DType::kBF16 && p.dtype != DType::kF16) return false;
  if (!p.silu_mul || p.w_scales != nullptr || p.norm_weight != nullptr) return false;
  if (p.bias != nullptr || p.add != nullptr || p.is_y_f32) return false;
  return p.num_rows >= 1 && p.n >= 16 && p.n % 16 == 0 && p.k >= 64 && p.k % 8 == 0 &&
         p.x_stride % 8 == 0 && p.y_stride % 8 == 0;
}

cudaError_t PrepareGated() {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const int groups : {2, 3}) {
      for (const bool reads_once : {false, true}) {
        const cudaError_t error =
            cudaFuncSetAttribute(KernelFor(dtype, groups, reads_once),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, SharedBytes(groups));
        if (error != cudaSuccess) return error;
      }
    }
  }
  return cudaSuccess;
}

cudaError_t GatedLinear(const LinearParams& p, int32_t groups, const SkinnyDevice& device,
                        cudaStream_t stream) {
  if (!GatedTakes(p) || !IsGatedTile(groups)) return cudaErrorInvalidValue;
  GatedArgs args = {};
  cudaError_t error = MakeMaps(p, groups, &args);
  if (error != cudaSuccess) return error;
  args.num_chunks = DivideUp(p.k, kGatedChunk);
  args.num_row_pairs = DivideUp(p.n, 2 * groups * 64);
  args.num_token_tiles = DivideUp(p.num_rows, kGatedTokens);
  const int64_t units = int64_t{args.num_row_pairs} * args.num_token_tiles;
  const int clusters = static_cast<int>(std::min<int64_t>(units, device.num_sms / 2));
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {2, 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(clusters * 2);
  config.blockDim = dim3((groups + 1) * 128);
  config.dynamicSmemBytes = SharedBytes(groups);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = p.pdl ? 2 : 1;
  error = cudaLaunchKernelEx(&config, KernelFor(p.dtype, groups, args.num_token_tiles == 1), args);
  return error != cudaSuccess ? error : cudaGetLastError();
}

}  // namespace mili::kernels::cuda

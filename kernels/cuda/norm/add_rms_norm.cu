#include "kernels/cuda/common/dispatch.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/norm/add_rms_norm.h"
#include "kernels/cuda/norm/norm_row.cuh"

namespace mili::kernels::cuda {
namespace {

// One block a row.
template <typename T, int kVecs>
__global__ void AddRmsNormKernel(const AddRmsNormParams p) {
  __shared__ uint32_t scratch[64];
  const int32_t num_vecs = p.hidden_size / kVec;
  uint4 weight[kVecs];
  LoadRow(p.weight, 0, num_vecs, weight);  // depends on no kernel before
  LetDependentsStart();
  WaitForProducers();
  const int64_t row = blockIdx.x;
  const int64_t from = p.row_idxs != nullptr ? p.row_idxs[row] : row;
  uint4 residual[kVecs] = {};
  uint4 delta[kVecs] = {};
  if (from >= 0) {
    LoadRow(p.residual, from, num_vecs, residual);
    if (p.delta != nullptr) LoadRow(p.delta, from, num_vecs, delta);
  }
  float v[kVecs][kVec];
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
    Unpack<T>(residual[j], v[j]);
    if (p.delta == nullptr) continue;
    float d[kVec];
    Unpack<T>(delta[j], d);
#pragma unroll
    for (int i = 0; i < kVec; ++i) v[j][i] += d[i];
    residual[j] = Pack<T>(v[j]);
    Unpack<T>(residual[j], v[j]);  // the norm is of what is stored
  }
  if (p.delta != nullptr && p.row_idxs == nullptr) StoreRow(p.residual, row, num_vecs, residual);
  NormRow<T>(v, weight, num_vecs, {p.out, p.fp8, p.eps}, row, scratch);
}

}  // namespace

cudaError_t AddRmsNorm(const AddRmsNormParams& p, cudaStream_t stream) {
  if (p.num_tokens <= 0 || p.hidden_size <= 0 || p.hidden_size % kVec != 0 ||
      p.hidden_size > 16384) {
    return cudaErrorInvalidValue;
  }
  return ForRow<256, 2048>(p.dtype, p.hidden_size / kVec, [&](auto type, auto vecs) {
    using T = typename decltype(type)::Type;
    constexpr int kVecs = decltype(vecs)::value;
    return Launch(AddRmsNormKernel<T, kVecs>, dim3(p.num_tokens),
                  dim3(RowThreads(p.hidden_size / kVec, kVecs)), 0, p.pdl, stream, p);
  });
}

}  // namespace mili::kernels::cuda

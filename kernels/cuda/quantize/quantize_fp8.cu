#include "kernels/cuda/common/dispatch.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/row.cuh"
#include "kernels/cuda/quantize/quantize_fp8.h"

namespace mili::kernels::cuda {
namespace {

// One block a row.
template <typename T, int kVecs>
__global__ void QuantizeFp8Kernel(const QuantizeFp8Params p) {
  __shared__ uint32_t scratch[32];
  LetDependentsStart();
  WaitForProducers();
  const int32_t num_vecs = p.size / kVec;
  const auto* in = static_cast<const uint4*>(p.in) + blockIdx.x * (p.in_stride / kVec);
  float v[kVecs][kVec];
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
    const int32_t i = threadIdx.x + j * blockDim.x;
    if (i < num_vecs) Unpack<T>(in[i], v[j]);
  }
  StoreFp8Row(v, num_vecs, p.out, blockIdx.x, scratch);
}

}  // namespace

cudaError_t QuantizeFp8(const QuantizeFp8Params& p, cudaStream_t stream) {
  if (p.num_rows <= 0 || p.size <= 0 || p.size % kVec != 0 || p.size > 32768 ||
      p.in_stride % kVec != 0) {
    return cudaErrorInvalidValue;
  }
  return ForRow<512, 4096>(p.dtype, p.size / kVec, [&](auto type, auto vecs) {
    using T = typename decltype(type)::Type;
    constexpr int kVecs = decltype(vecs)::value;
    return Launch(QuantizeFp8Kernel<T, kVecs>, dim3(p.num_rows),
                  dim3(RowThreads(p.size / kVec, kVecs)), 0, p.pdl, stream, p);
  });
}

}  // namespace mili::kernels::cuda

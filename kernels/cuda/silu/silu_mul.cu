#include "kernels/cuda/common/dispatch.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/row.cuh"
#include "kernels/cuda/silu/silu_mul.h"

namespace mili::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Vector i of the output: of gate_up's vectors 2 i (gate) and 2 i + 1 (up).
template <typename T>
__device__ __forceinline__ void SiluMulVec(uint4 gate_bits, uint4 up_bits, float (&v)[kVec]) {
  float gate[kVec], up[kVec];
  Unpack<T>(gate_bits, gate);
  Unpack<T>(up_bits, up);
#pragma unroll
  for (int i = 0; i < kVec; ++i) v[i] = __fdividef(gate[i], 1.0f + __expf(-gate[i])) * up[i];
}

template <typename T>
__global__ void __launch_bounds__(kThreads) SiluMulKernel(const SiluMulParams p) {
  LetDependentsStart();
  WaitForProducers();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(p.num_tokens) * (p.size / kVec)) return;
  const auto* in = static_cast<const uint4*>(p.gate_up);
  float v[kVec];
  SiluMulVec<T>(in[2 * i], in[2 * i + 1], v);
  static_cast<uint4*>(p.out)[i] = Pack<T>(v);
}

// One block a row, since its largest value decides the scale.
template <typename T, int kVecs>
__global__ void __launch_bounds__(1024) SiluMulFp8Kernel(const SiluMulParams p) {
  __shared__ uint32_t scratch[32];
  LetDependentsStart();
  WaitForProducers();
  const int32_t num_vecs = p.size / kVec;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * num_vecs;
  const auto* in = static_cast<const uint4*>(p.gate_up) + 2 * first;
  uint4 gate[kVecs], up[kVecs];
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
    const int32_t i = threadIdx.x + j * blockDim.x;
    gate[j] = i < num_vecs ? in[2 * i] : uint4{0, 0, 0, 0};
    up[j] = i < num_vecs ? in[2 * i + 1] : uint4{0, 0, 0, 0};
  }
  float v[kVecs][kVec];
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
    const int32_t i = threadIdx.x + j * blockDim.x;
    SiluMulVec<T>(gate[j], up[j], v[j]);
    if (p.out != nullptr && i < num_vecs) {
      static_cast<uint4*>(p.out)[first + i] = Pack<T>(v[j]);
    }
  }
  StoreFp8Row(v, num_vecs, p.fp8, blockIdx.x, scratch);
}

}  // namespace

cudaError_t SiluMul(const SiluMulParams& p, cudaStream_t stream) {
  if (p.num_tokens <= 0 || p.size <= 0 || p.size % kVec != 0 || p.size > 32768) {
    return cudaErrorInvalidValue;
  }
  const int32_t num_vecs = p.size / kVec;
  if (p.fp8.values != nullptr) {
    return ForRow<512, 4096>(p.dtype, num_vecs, [&](auto type, auto vecs) {
      using T = typename decltype(type)::Type;
      constexpr int kVecs = decltype(vecs)::value;
      return Launch(SiluMulFp8Kernel<T, kVecs>, dim3(p.num_tokens),
                    dim3(RowThreads(num_vecs, kVecs)), 0, p.pdl, stream, p);
    });
  }
  const int64_t blocks = (static_cast<int64_t>(p.num_tokens) * num_vecs + kThreads - 1) / kThreads;
  return ForHalfType(p.dtype, [&](auto type) {
    return Launch(SiluMulKernel<typename decltype(type)::Type>, dim3(static_cast<unsigned>(blocks)),
                  dim3(kThreads), 0, p.pdl, stream, p);
  });
}

}  // namespace mili::kernels::cuda

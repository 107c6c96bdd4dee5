// RMSNorm of a row held in a block's registers (common/row.cuh). Device code only.
#pragma once

#include "kernels/cuda/common/row.cuh"

namespace mili::kernels::cuda {

// What is done with a row once it is known.
struct NormOutput {
  void* out;  // or null
  Fp8Rows fp8;
  float eps;
};

// The weights of this thread's vectors.
template <int kVecs>
__device__ __forceinline__ void LoadRow(const void* from, int64_t row, int32_t num_vecs,
                                        uint4 (&bits)[kVecs]) {
  const auto* vecs = static_cast<const uint4*>(from) + row * num_vecs;
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
    const int32_t i = threadIdx.x + j * blockDim.x;
    bits[j] = i < num_vecs ? vecs[i] : uint4{0, 0, 0, 0};
  }
}

template <int kVecs>
__device__ __forceinline__ void StoreRow(void* to, int64_t row, int32_t num_vecs,
                                         const uint4 (&bits)[kVecs]) {
  auto* vecs = static_cast<uint4*>(to) + row * num_vecs;
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
    const int32_t i = threadIdx.x + j * blockDim.x;
    if (i < num_vecs) vecs[i] = bits[j];
  }
}

// v / rms(v) * weight to `output`. Vectors past the row are zeros. `scratch` is shared memory for
// 64 values that nobody uses before.
template <typename T, int kVecs>
__device__ __forceinline__ void NormRow(float (&v)[kVecs][kVec], const uint4 (&weight)[kVecs],
                                        int32_t num_vecs, const NormOutput& output, int64_t row,
                                        uint32_t* scratch) {
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
#pragma unroll
    for (int i = 0; i < kVec; ++i) sum += v[j][i] * v[j][i];
  }
  sum = BlockSum(sum, reinterpret_cast<float*>(scratch));
  const float scale = rsqrtf(sum / static_cast<float>(num_vecs * kVec) + output.eps);
  uint4 bits[kVecs];
#pragma unroll
  for (int j = 0; j < kVecs; ++j) {
    float w[kVec];
    Unpack<T>(weight[j], w);
#pragma unroll
    for (int i = 0; i < kVec; ++i) v[j][i] = v[j][i] * scale * w[i];
    bits[j] = Pack<T>(v[j]);
  }
  if (output.out != nullptr) StoreRow(output.out, row, num_vecs, bits);
  if (output.fp8.values != nullptr) StoreFp8Row(v, num_vecs, output.fp8, row, scratch + 32);
}

}  // namespace mili::kernels::cuda

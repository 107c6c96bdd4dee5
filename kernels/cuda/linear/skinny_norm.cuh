// RMSNorm of the tokens that a block of the skinny kernel keeps in shared memory, in place. Every
// block does the same work; it is hidden while the first weights are on their way.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/vec8.cuh"
#include "kernels/cuda/linear/skinny_args.h"

namespace mili::kernels::cuda::skinny {

// A barrier of the multiplying warps alone.
__device__ __forceinline__ void SyncMmaWarps() {
  asm volatile("bar.sync 1, %0;" ::"n"(kSkinnyMmaWarps * 32) : "memory");
}

// Brings the weight into the L2 while the producers of x still run.
template <typename Element>
__device__ __forceinline__ void PrefetchNormWeight(const SkinnyArgs& a) {
  for (int i = threadIdx.x * 64; i < a.k; i += kSkinnyMmaWarps * 32 * 64) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(
        static_cast<const typename Element::Type*>(a.norm_weight) + i));
  }
}

// x = round(x / rms(x)) * weight, rounded again: as the separate kernel does. Called by the
// multiplying warps, once all tokens are there.
template <typename Weights>
__device__ __forceinline__ void NormalizeTokens(const SkinnyArgs& a, char* shared) {
  using Type = typename Weights::Element::Type;
  constexpr int kThreads = kSkinnyMmaWarps * 32;
  constexpr int kChunkVecs = kSkinnyChunkBytes / Weights::kBytes / kVec;
  const int num_vecs = a.k / kVec;
  const int warp = threadIdx.x / 32;
  const auto vec_at = [&](int token, int i) {
    const int row = i / kChunkVecs * a.num_rows + token;
    return reinterpret_cast<uint4*>(shared + a.layout.x + row * Weights::kTokenPitch) +
           i % kChunkVecs;
  };
  // The partial sums of the product come later; the place is free for those of the squares.
  float* squares = reinterpret_cast<float*>(shared + a.layout.partials);
  for (int token = 0; token < a.num_rows; ++token) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < num_vecs; i += kThreads) {
      float v[kVec];
      Unpack<Type>(*vec_at(token, i), v);
#pragma unroll
      for (int j = 0; j < kVec; ++j) sum += v[j] * v[j];
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (threadIdx.x % 32 == 0) squares[token * kSkinnyMmaWarps + warp] = sum;
  }
  SyncMmaWarps();
  for (int i = threadIdx.x; i < num_vecs; i += kThreads) {
    float weight[kVec];
    Unpack<Type>(static_cast<const uint4*>(a.norm_weight)[i], weight);
    for (int token = 0; token < a.num_rows; ++token) {
      float sum = 0.0f;
#pragma unroll
      for (int w = 0; w < kSkinnyMmaWarps; ++w) sum += squares[token * kSkinnyMmaWarps + w];
      const float factor = rsqrtf(sum / static_cast<float>(a.k) + a.norm_eps);
      float v[kVec];
      uint4* at = vec_at(token, i);
      Unpack<Type>(*at, v);
#pragma unroll
      for (int j = 0; j < kVec; ++j) v[j] *= factor;
      Unpack<Type>(Pack<Type>(v), v);
#pragma unroll
      for (int j = 0; j < kVec; ++j) v[j] *= weight[j];
      *at = Pack<Type>(v);
    }
  }
  SyncMmaWarps();
}

}  // namespace mili::kernels::cuda::skinny

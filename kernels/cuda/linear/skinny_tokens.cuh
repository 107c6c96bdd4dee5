// The tokens that a block of the skinny kernel keeps in shared memory: each multiplying warp brings
// those parts of them that it will multiply, and may normalize them (RMSNorm) in place. Every block
// does the same work; it is hidden while the first weights are on their way.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/cp_async.cuh"
#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/vec8.cuh"
#include "kernels/cuda/linear/skinny_args.h"

namespace mili::kernels::cuda::skinny {

// A barrier of the multiplying warps alone.
__device__ __forceinline__ void SyncMmaWarps() {
  asm volatile("bar.sync 1, %0;" ::"n"(kSkinnyMmaWarps * 32) : "memory");
}

// What one warp multiplies of the tokens: of every chunk its eighth. Neighbouring lanes hold
// neighbouring vectors of a token; a few tokens are in hand at once.
template <typename Weights>
class WarpTokens {
 public:
  // Computes addresses, and reads nothing.
  __device__ __forceinline__ WarpTokens(const SkinnyArgs& a, char* shared)
      : a_(a),
        shared_(shared),
        from_(static_cast<const Type*>(a.x) + FirstOf(0) + first_token_ * a.x_stride),
        to_(SharedAddress(At(0, first_token_))) {}

  // Fetches the norm's weight, which depends on no other kernel. Load waits for it.
  __device__ __forceinline__ void LoadNormWeight() const {
    if (first_token_ != 0) return;
    for (int k = FirstOf(0); k < a_.k; k += kChunk) {
      CopyAsync16(SharedAddress(NormAt(k)), static_cast<const Type*>(a_.norm_weight) + k);
    }
  }

  __device__ __forceinline__ void Load() const {
    const Type* from = from_;
    uint32_t to = to_;
    for (int k = FirstOf(0); k < a_.k; k += kChunk) {
      const Type* row = from;
      uint32_t to_row = to;
      for (int token = first_token_; token < a_.num_rows; token += kTokensAtOnce) {
        CopyAsync16(to_row, row);
        row += kTokensAtOnce * a_.x_stride;
        to_row += kTokensAtOnce * Weights::kTokenPitch;
      }
      from += kChunk;
      to += a_.num_rows * Weights::kTokenPitch;
    }
    CommitCopies();
    WaitForCopies<0>();
    __syncwarp();
  }

  // x = round(x / rms(x)) * weight, rounded again: as the separate kernel does.
  __device__ __forceinline__ void Normalize() const {
    // In the second place for partial sums, which is not in use before a barrier after this one.
    float* const squares =
        reinterpret_cast<float*>(shared_ + a_.layout.partials + a_.layout.partial_bytes);
    for (int first = 0; first < a_.num_rows; first += kTokensAtOnce) {
      const int token = first + first_token_;
      float sum = 0.0f;
      for (int chunk = 0; chunk < a_.num_chunks && token < a_.num_rows; ++chunk) {
        if (FirstOf(chunk) >= a_.k) break;
        float v[kVec];
        Unpack<Type>(*At(chunk, token), v);
#pragma unroll
        for (int j = 0; j < kVec; ++j) sum += v[j] * v[j];
      }
#pragma unroll
      for (int step = kVecs / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
      if (vec_ == 0 && token < a_.num_rows) squares[token * kSkinnyMmaWarps + warp_] = sum;
    }
    SyncMmaWarps();
    for (int token = first_token_; token < a_.num_rows; token += kTokensAtOnce) {
      float sum = 0.0f;
#pragma unroll
      for (int w = 0; w < kSkinnyMmaWarps; ++w) sum += squares[token * kSkinnyMmaWarps + w];
      Scale(token, rsqrtf(sum / static_cast<float>(a_.k) + a_.norm_eps));
    }
    __syncwarp();
  }

 private:
  using Type = typename Weights::Element::Type;
  static constexpr int kChunk = kSkinnyChunkBytes / Weights::kBytes;
  static constexpr int kPart = kChunk / kSkinnyMmaWarps;
  static constexpr int kVecs = kPart / kVec;  // of a token's part
  static constexpr int kTokensAtOnce = 32 / kVecs;

  // The first element of this lane's vector.
  __device__ __forceinline__ int FirstOf(int chunk) const {
    return chunk * kChunk + warp_ * kPart + vec_ * kVec;
  }
  __device__ __forceinline__ uint4* NormAt(int k) const {
    return reinterpret_cast<uint4*>(shared_ + a_.layout.norm) + k / kVec;
  }
  __device__ __forceinline__ uint4* At(int chunk, int token) const {
    char* const row = shared_ + a_.layout.x + (chunk * a_.num_rows + token) * Weights::kTokenPitch;
    return reinterpret_cast<uint4*>(row) + warp_ * kVecs + vec_;
  }
  __device__ __forceinline__ void Scale(int token, float factor) const {
    for (int chunk = 0; chunk < a_.num_chunks && FirstOf(chunk) < a_.k; ++chunk) {
      float weight[kVec];
      Unpack<Type>(*NormAt(FirstOf(chunk)), weight);
      float v[kVec];
      uint4* const at = At(chunk, token);
      Unpack<Type>(*at, v);
#pragma unroll
      for (int j = 0; j < kVec; ++j) v[j] *= factor;
      Unpack<Type>(Pack<Type>(v), v);
#pragma unroll
      for (int j = 0; j < kVec; ++j) v[j] *= weight[j];
      *at = Pack<Type>(v);
    }
  }

  int warp_ = threadIdx.x / 32;
  int vec_ = threadIdx.x % 32 % kVecs;
  int first_token_ = threadIdx.x % 32 / kVecs;
  const SkinnyArgs& a_;
  char* shared_;
  const Type* from_;  // this lane's vector of the first chunk
  uint32_t to_;
};

}  // namespace mili::kernels::cuda::skinny

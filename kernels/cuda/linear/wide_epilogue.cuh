// The end of a tile of the wide kernel: the sums of the cluster's blocks are added in the order of
// their ranks, then scales, bias, residual and activation are applied and the result is rounded
// once.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/cluster.cuh"
#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/common/vec8.cuh"
#include "kernels/cuda/linear/wide_args.h"

namespace mili::kernels::cuda {

// Four neighbouring outputs of a token, owned by one thread: so a warp reads the sums without bank
// conflicts. Made early, so that what it reads is there when the sums are.
template <typename OutType>
class WideOutput {
 public:
  using Out = OutType;
  using Type = typename Out::Type;

  // Unit `unit` of the tile that begins with weight row `tile_row`, for the tile's token `token`.
  __device__ __forceinline__ WideOutput(const WideArgs& a, int tile_row, int unit, int first_token,
                                        int token, bool exists)
      : token_(token), row_(a.silu_mul ? unit / 2 * 16 + unit % 2 * 4 : unit * 4) {
    n_ = tile_row + row_;
    m_ = first_token + token;
    exists_ = exists && n_ < a.n;
    if (!exists_) return;
    if (a.bias != nullptr) bias_ = *At(a.bias, n_);
    if (a.add != nullptr) add_ = *At(a.add, m_ * a.add_stride + n_);
  }

  // `parts` is [token][row] with rows of `pitch` floats, at the same place in every block.
  __device__ __forceinline__ void Write(const WideArgs& a, const float* parts, int pitch) const {
    if (!exists_) return;
    parts += token_ * pitch + row_;
    float4 value = Scaled(a, Sum(a, parts), n_);
    if (a.silu_mul) {
      const float4 up = Scaled(a, Sum(a, parts + 8), n_ + 8);
      value.x = value.x / (1.0f + __expf(-value.x)) * up.x;
      value.y = value.y / (1.0f + __expf(-value.y)) * up.y;
      value.z = value.z / (1.0f + __expf(-value.z)) * up.z;
      value.w = value.w / (1.0f + __expf(-value.w)) * up.w;
    }
    if (a.bias != nullptr) Add(bias_, &value);
    if (a.add != nullptr) Add(add_, &value);
    const int64_t to = m_ * a.y_stride + (a.silu_mul ? n_ / 16 * 8 + n_ % 8 : n_);
    if (a.is_y_f32) {
      *reinterpret_cast<float4*>(static_cast<float*>(a.y) + to) = value;
    } else {
      *reinterpret_cast<uint2*>(static_cast<Type*>(a.y) + to) = {Out::Pack(value.x, value.y),
                                                                 Out::Pack(value.z, value.w)};
    }
  }

 private:
  static __device__ __forceinline__ const uint2* At(const void* array, int64_t i) {
    return reinterpret_cast<const uint2*>(static_cast<const Type*>(array) + i);
  }

  static __device__ __forceinline__ void Add(const uint2& bits, float4* value) {
    using Pair = typename PairOf<Type>::Type;
    const float2 low = ToFloat2(*reinterpret_cast<const Pair*>(&bits.x));
    const float2 high = ToFloat2(*reinterpret_cast<const Pair*>(&bits.y));
    value->x += low.x;
    value->y += low.y;
    value->z += high.x;
    value->w += high.y;
  }

  // All are asked for before the first is needed.
  template <int kSplits>
  static __device__ __forceinline__ float4 SumOf(const float* part, int first_rank) {
    const uint32_t address = SharedAddress(part);
    float4 v[kSplits];
#pragma unroll
    for (int rank = 0; rank < kSplits; ++rank) v[rank] = LoadOfBlock(address, first_rank + rank);
#pragma unroll
    for (int rank = 1; rank < kSplits; ++rank) {
      v[0].x += v[rank].x;
      v[0].y += v[rank].y;
      v[0].z += v[rank].z;
      v[0].w += v[rank].w;
    }
    return v[0];
  }

  __device__ __forceinline__ float4 Sum(const WideArgs& a, const float* part) const {
    // Of the blocks of this tile; ranks in the cluster.
    const int first_rank = blockIdx.x / a.num_splits % a.num_sharers * a.num_splits;
    switch (a.num_splits) {
      case 1:
        return *reinterpret_cast<const float4*>(part);
      case 2:
        return SumOf<2>(part, first_rank);
      case 4:
        return SumOf<4>(part, first_rank);
      default:
        return SumOf<8>(part, first_rank);
    }
  }

  __device__ __forceinline__ float4 Scaled(const WideArgs& a, float4 value, int n) const {
    if (a.w_scales == nullptr) return value;
    const float x_scale = a.x_scales[m_];
    const float4 scale = *reinterpret_cast<const float4*>(a.w_scales + n);
    return make_float4(value.x * scale.x * x_scale, value.y * scale.y * x_scale,
                       value.z * scale.z * x_scale, value.w * scale.w * x_scale);
  }

  int token_;
  int row_;
  int n_;
  int64_t m_;
  bool exists_;
  uint2 bias_;
  uint2 add_;
};

// Brings what belongs to the tile's weight rows into the L2 while the producers of x still run.
template <typename Output>
__device__ __forceinline__ void PrefetchColumns(const WideArgs& a, int tile_row, int num_rows) {
  const int n = tile_row + static_cast<int>(threadIdx.x) * 8;  // 32 bytes of scales
  if (static_cast<int>(threadIdx.x) * 8 >= num_rows || n >= a.n) return;
  if (a.w_scales != nullptr) asm volatile("prefetch.global.L2 [%0];" ::"l"(a.w_scales + n));
  if (a.bias != nullptr) {
    asm volatile(
        "prefetch.global.L2 [%0];" ::"l"(static_cast<const typename Output::Type*>(a.bias) + n));
  }
}

}  // namespace mili::kernels::cuda

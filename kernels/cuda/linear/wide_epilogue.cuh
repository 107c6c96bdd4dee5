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

// What a block has to do, and where its barriers and its ring are.
struct WideBlock {
  int split;  // which part of k
  int tile;
  int first_token;
  int first_chunk;
  int num_chunks;
  uint32_t full;   // barriers [num_stages]: the stage has come
  uint32_t empty;  // barriers [num_stages]: all warps have read it
  uint32_t ring;
};

// A thread's share of a tile's outputs: four neighbouring ones, so that a warp reads the sums
// without bank conflicts, of some of the tokens that this block owns. What it needs from memory
// beside the sums is asked for before those are there, as far as registers allow.
template <typename Tile>
class WideOutputs {
 public:
  __device__ __forceinline__ WideOutputs(const WideArgs& a, const WideBlock& block) {
    const int threads = Tile::kRows / (a.silu_mul ? 8 : 4);  // of a token
    const int place = threadIdx.x % threads;
    const int num_tokens = min(Tile::kTokens, a.num_rows - block.first_token);
    const int share = (num_tokens + a.num_splits - 1) / a.num_splits;
    row_ = a.silu_mul ? place / 2 * 16 + place % 2 * 4 : place * 4;
    n_ = block.tile * Tile::kRows + row_;
    step_ = Tile::kMultipliers / threads;
    token_ = block.split * share + threadIdx.x / threads;
    end_ = n_ < a.n ? min(block.split * share + share, num_tokens) : 0;
  }

  // What belongs to the weight rows: depends on no other kernel.
  __device__ __forceinline__ void LoadColumns(const WideArgs& a) {
    if (token_ >= end_) return;
    if (a.bias != nullptr) bias_ = *At(a.bias, n_);
    if (a.w_scales == nullptr) return;
    scale_ = *reinterpret_cast<const float4*>(a.w_scales + n_);
    if (a.silu_mul) up_scale_ = *reinterpret_cast<const float4*>(a.w_scales + n_ + 8);
  }

  // What belongs to the next tokens.
  __device__ __forceinline__ void LoadTokens(const WideArgs& a, const WideBlock& block) {
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int token = token_ + j * step_;
      if (token >= end_) break;
      const int64_t m = block.first_token + token;
      if (a.add != nullptr) add_[j] = *At(a.add, m * a.add_stride + n_);
      if (a.w_scales != nullptr) x_scale_[j] = a.x_scales[m];
    }
  }

  // After LoadColumns and LoadTokens. `parts` is [token][row] in every block; `sync` makes the sums
  // of all blocks visible.
  template <int kSplits, typename Sync>
  __device__ __forceinline__ void Write(const WideArgs& a, const WideBlock& block,
                                        const float* parts, Sync sync) {
    sync();
    while (true) {
      Write<kSplits>(a, block, parts);
      token_ += kAtOnce * step_;
      if (token_ >= end_) return;
      LoadTokens(a, block);
    }
  }

 private:
  using Out = typename Tile::Out;
  using Type = typename Out::Type;
  static constexpr int kAtOnce = 4;
  static constexpr int kReadAtOnce = 2;  // more would not fit the registers with many splits

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

  static __device__ __forceinline__ void Scale(const float4& scale, float x_scale, float4* value) {
    *value = make_float4(value->x * scale.x * x_scale, value->y * scale.y * x_scale,
                         value->z * scale.z * x_scale, value->w * scale.w * x_scale);
  }

  // All parts are asked for before the first is needed.
  template <int kSplits>
  static __device__ __forceinline__ float4 Sum(const float* part) {
    if (kSplits == 1) return *reinterpret_cast<const float4*>(part);
    const uint32_t address = SharedAddress(part);
    float4 v[kSplits];
#pragma unroll
    for (int rank = 0; rank < kSplits; ++rank) v[rank] = LoadOfBlock(address, rank);
#pragma unroll
    for (int rank = 1; rank < kSplits; ++rank) {
      v[0].x += v[rank].x;
      v[0].y += v[rank].y;
      v[0].z += v[rank].z;
      v[0].w += v[rank].w;
    }
    return v[0];
  }

  template <int kSplits>
  __device__ __forceinline__ void Write(const WideArgs& a, const WideBlock& block,
                                        const float* parts) const {
    constexpr int kTogether = kSplits > 2 ? kReadAtOnce : kAtOnce;
#pragma unroll
    for (int first = 0; first < kAtOnce; first += kTogether) {
      if (token_ + first * step_ >= end_) return;
      float4 values[kTogether];
      float4 ups[kTogether];
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        // A token that does not exist reads the first one's.
        const int token = token_ + (first + j) * step_;
        const float* part = parts + (token < end_ ? token : 0) * Tile::kSumPitch + row_;
        values[j] = Sum<kSplits>(part);
        if (a.silu_mul) ups[j] = Sum<kSplits>(part + 8);
      }
#pragma unroll
      for (int j = 0; j < kTogether; ++j) Finish(a, block, first + j, values[j], ups[j]);
    }
  }

  // `up` matters with silu_mul alone.
  __device__ __forceinline__ void Finish(const WideArgs& a, const WideBlock& block, int j,
                                         float4 value, float4 up) const {
    const int token = token_ + j * step_;
    if (token >= end_) return;
    if (a.w_scales != nullptr) Scale(scale_, x_scale_[j], &value);
    if (a.silu_mul) {
      if (a.w_scales != nullptr) Scale(up_scale_, x_scale_[j], &up);
      value.x = value.x / (1.0f + __expf(-value.x)) * up.x;
      value.y = value.y / (1.0f + __expf(-value.y)) * up.y;
      value.z = value.z / (1.0f + __expf(-value.z)) * up.z;
      value.w = value.w / (1.0f + __expf(-value.w)) * up.w;
    }
    if (a.bias != nullptr) Add(bias_, &value);
    if (a.add != nullptr) Add(add_[j], &value);
    const int64_t m = block.first_token + token;
    const int64_t to = m * a.y_stride + (a.silu_mul ? n_ / 16 * 8 + n_ % 8 : n_);
    if (a.is_y_f32) {
      *reinterpret_cast<float4*>(static_cast<float*>(a.y) + to) = value;
    } else {
      *reinterpret_cast<uint2*>(static_cast<Type*>(a.y) + to) = {Out::Pack(value.x, value.y),
                                                                 Out::Pack(value.z, value.w)};
    }
  }

  int row_;    // of the tile; with silu_mul the first of four gate rows
  int n_;      // of the product
  int token_;  // of the tile, the next
  int end_;
  int step_;  // from token to token
  uint2 bias_;
  float4 scale_;
  float4 up_scale_;
  uint2 add_[kAtOnce];
  float x_scale_[kAtOnce];
};

// Brings what belongs to the tile's weight rows into the L2 while the producers of x still run.
template <typename Type>
__device__ __forceinline__ void PrefetchColumns(const WideArgs& a, int tile_row, int num_rows) {
  const int n = tile_row + static_cast<int>(threadIdx.x) * 8;  // 32 bytes of scales
  if (static_cast<int>(threadIdx.x) * 8 >= num_rows || n >= a.n) return;
  if (a.w_scales != nullptr) asm volatile("prefetch.global.L2 [%0];" ::"l"(a.w_scales + n));
  if (a.bias != nullptr) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const Type*>(a.bias) + n));
  }
}

}  // namespace mili::kernels::cuda

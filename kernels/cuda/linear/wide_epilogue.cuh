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

// Four neighbouring outputs of a token: so a warp reads the sums without bank conflicts. Made
// early, so that what it reads from memory is there when the sums are.
template <typename Tile>
struct WideUnit {
  using Out = typename Tile::Out;
  using Type = typename Out::Type;

  int token;  // of the tile
  int row;    // of the tile; with silu_mul the first of four gate rows
  int n;
  int64_t m;
  bool exists;
  uint2 bias;
  uint2 add;

  __device__ __forceinline__ void Begin(const WideArgs& a, const WideBlock& block, int in_token,
                                        int tile_token, bool is_valid) {
    token = is_valid ? tile_token : 0;
    row = a.silu_mul ? in_token / 2 * 16 + in_token % 2 * 4 : in_token * 4;
    n = block.tile * Tile::kRows + row;
    m = block.first_token + token;
    exists = is_valid && n < a.n;
    if (!exists) return;
    if (a.bias != nullptr) bias = *At(a.bias, n);
    if (a.add != nullptr) add = *At(a.add, m * a.add_stride + n);
  }

  // All are asked for before the first is needed. `parts` is [token][row] in every block.
  template <int kSplits>
  __device__ __forceinline__ float4 Sum(const float* parts, int rows_further) const {
    const float* part = parts + token * Tile::kSumPitch + row + rows_further;
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

  // `up` matters with silu_mul alone.
  __device__ __forceinline__ void Finish(const WideArgs& a, float4 value, float4 up) const {
    if (!exists) return;
    value = Scaled(a, value, n);
    if (a.silu_mul) {
      up = Scaled(a, up, n + 8);
      value.x = value.x / (1.0f + __expf(-value.x)) * up.x;
      value.y = value.y / (1.0f + __expf(-value.y)) * up.y;
      value.z = value.z / (1.0f + __expf(-value.z)) * up.z;
      value.w = value.w / (1.0f + __expf(-value.w)) * up.w;
    }
    if (a.bias != nullptr) Add(bias, &value);
    if (a.add != nullptr) Add(add, &value);
    const int64_t to = m * a.y_stride + (a.silu_mul ? n / 16 * 8 + n % 8 : n);
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

  __device__ __forceinline__ float4 Scaled(const WideArgs& a, float4 value, int column) const {
    if (a.w_scales == nullptr) return value;
    const float x_scale = a.x_scales[m];
    const float4 scale = *reinterpret_cast<const float4*>(a.w_scales + column);
    return make_float4(value.x * scale.x * x_scale, value.y * scale.y * x_scale,
                       value.z * scale.z * x_scale, value.w * scale.w * x_scale);
  }
};

// Writes those outputs of the tile that this block owns: of its tokens a share, some units of a
// thread at once so that their reads overlap. `sync` makes the sums of all blocks visible.
template <typename Tile, int kSplits, typename Sync>
__device__ __forceinline__ void WriteOutputs(const WideArgs& a, const WideBlock& block,
                                             const float* parts, Sync sync) {
  constexpr int kAtOnce = kSplits > 2 ? 2 : 4;  // more would not fit the registers
  const int units_of_token = Tile::kRows / (a.silu_mul ? 8 : 4);
  const int num_tokens = min(Tile::kTokens, a.num_rows - block.first_token);
  const int share = (num_tokens + kSplits - 1) / kSplits;
  const int first = block.split * share;
  const int num_units = max(0, min(share, num_tokens - first)) * units_of_token;
  WideUnit<Tile> units[kAtOnce];
  const auto begin = [&](int base) {
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int unit = base + j * Tile::kMultipliers;
      units[j].Begin(a, block, unit % units_of_token, first + unit / units_of_token,
                     unit < num_units);
    }
  };
  begin(threadIdx.x);
  sync();
  for (int base = threadIdx.x; base < num_units; base += kAtOnce * Tile::kMultipliers) {
    if (base != static_cast<int>(threadIdx.x)) begin(base);
    float4 values[kAtOnce];
    float4 ups[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) values[j] = units[j].template Sum<kSplits>(parts, 0);
    if (a.silu_mul) {
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) ups[j] = units[j].template Sum<kSplits>(parts, 8);
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) units[j].Finish(a, values[j], ups[j]);
  }
}

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

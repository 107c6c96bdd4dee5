// What the host tells the wide kernel, and the table of its instances. Private to this folder.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/linear/linear.h"

namespace mili::kernels::cuda {

inline constexpr int kWideGroupRows = 64;    // weight rows of a warpgroup
inline constexpr int kWideChunkBytes = 128;  // of a row, a stage: one span of the swizzle
inline constexpr int kWideMaxStages = 16;
inline constexpr uint32_t kWideRingOffset = 1024;  // barriers lie before it
// Sums of a token in shared memory are followed by this many floats, against bank conflicts.
inline constexpr int kWideSumPadding = 4;

struct WideArgs {
  CUtensorMap w_map;  // boxes of one chunk by the tile's weight rows
  CUtensorMap x_map;  // boxes of one chunk by the tile's tokens
  const void* bias;
  const void* add;
  void* y;
  const float* w_scales;
  const float* x_scales;
  int64_t add_stride;
  int64_t y_stride;
  int32_t num_rows;
  int32_t n;
  int32_t num_chunks;  // of k
  int32_t num_splits;  // blocks of a cluster, which share a tile's chunks
  int32_t num_stages;
  bool is_y_f32;
  bool silu_mul;
};

using WideKernel = void (*)(WideArgs);

// Instances by tokens of a tile (16, 32, 64, 128, 256) and warpgroups (1, 2, up to 128 tokens 3);
// null for others.
WideKernel WideBf16(int tokens, int groups);
WideKernel WideF16(int tokens, int groups);
WideKernel WideBf16Fp8(int tokens, int groups);
WideKernel WideF16Fp8(int tokens, int groups);

}  // namespace mili::kernels::cuda

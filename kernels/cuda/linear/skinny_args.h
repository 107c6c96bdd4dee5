// What the host tells the skinny kernel, and the table of its instances. Private to this folder.
#pragma once

#include <cstdint>

#include "kernels/cuda/linear/linear.h"

namespace mili::kernels::cuda {

inline constexpr int kSkinnyMmaWarps = 8;
inline constexpr int kSkinnyThreads = (kSkinnyMmaWarps + 2) * 32;  // and two that load

// A row of a stage: so many bytes of a weight row, and padding that keeps 16-byte reads of two
// neighbouring rows in different banks.
inline constexpr int kSkinnyChunkBytes = 1024;
inline constexpr int kSkinnyWeightPitch = kSkinnyChunkBytes + 64;
// Bytes from one token's part of a chunk to the next: the chunk in 16-bit elements, and padding.
inline constexpr int kSkinnyTokenPitch = kSkinnyChunkBytes + 64;
inline constexpr int kSkinnyTokenPitchFp8 = 2 * kSkinnyChunkBytes + 16;
// A token's partial sums are tile_rows floats and this padding, free of bank conflicts.
inline constexpr int kSkinnyPartialPadding = 4;

// Where things are in shared memory, in bytes; the barriers of 8 bytes come first: full
// [num_stages], empty [num_stages].
struct SkinnyLayout {
  int32_t num_stages;      // of the ring
  bool keeps_x;            // all of x stays in shared memory; else each stage brings its part
  uint32_t partials;       // float [2][warps][tokens][tile_rows + padding]
  uint32_t partial_bytes;  // of one of the two
  uint32_t norm;           // the norm's weight, if there is one: [k]
  uint32_t x;              // [num_chunks][num_rows][token pitch], where x is kept
  uint32_t stages;         // [num_stages]: tile_rows weight rows, then tokens where x is not kept
  uint32_t stage_bytes;
  uint32_t total_bytes;
};

struct SkinnyArgs {
  const void* x;
  const void* w;
  const void* bias;
  const void* add;
  void* y;
  const float* w_scales;
  const void* norm_weight;
  float norm_eps;
  int64_t x_stride;
  int64_t add_stride;
  int64_t y_stride;
  int32_t num_rows;
  int32_t n;
  int32_t k;
  int32_t num_tiles;
  int32_t num_chunks;
  int32_t tile_rows;  // weight rows of a tile: 8, 16 or 32
  SkinnyLayout layout;
  bool is_y_f32;
  bool silu_mul;
};

using SkinnyKernel = void (*)(SkinnyArgs);

// Instances by the number of 8-token groups (1, 2) and of 16-row weight groups (1, 2) of a tile.
SkinnyKernel SkinnyBf16(int token_groups, int row_groups);
SkinnyKernel SkinnyF16(int token_groups, int row_groups);
SkinnyKernel SkinnyBf16Fp8(int token_groups, int row_groups);
SkinnyKernel SkinnyF16Fp8(int token_groups, int row_groups);

}  // namespace mili::kernels::cuda

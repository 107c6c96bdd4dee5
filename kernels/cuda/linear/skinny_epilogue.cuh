// The end of a tile of the skinny kernel: the warps' partial sums are added in their order, then
// scale, bias, residual and activation are applied and the result is rounded once.
#pragma once

#include <cstdint>

#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/linear/skinny_args.h"

namespace mili::kernels::cuda::skinny {

// One output of a tile, owned by one thread. `row` counts the tile's rows, for silu_mul its gate
// rows. Made early, so that what it reads is there when the sums are.
template <typename Element>
class Epilogue {
 public:
  using Type = typename Element::Type;

  __device__ __forceinline__ Epilogue(const SkinnyArgs& a, int tile, int row, int token,
                                      bool exists)
      : token_(token), tile_row_(a.silu_mul ? row / 8 * 16 + row % 8 : row) {
    const int n = tile * a.tile_rows + tile_row_;
    exists_ = exists && n < a.n;
    column_ = a.silu_mul ? tile * (a.tile_rows / 2) + row : n;
    if (!exists_) return;
    if (a.w_scales != nullptr) {
      scale_ = a.w_scales[n];
      if (a.silu_mul) up_scale_ = a.w_scales[n + 8];
    }
    if (a.bias != nullptr) bias_ = static_cast<const Type*>(a.bias)[n];
    if (a.add != nullptr) add_ = static_cast<const Type*>(a.add)[token * a.add_stride + n];
  }

  // `partials` is [warp][tokens][tile_rows + padding].
  __device__ __forceinline__ void Write(const SkinnyArgs& a, const float* partials,
                                        int tokens) const {
    if (!exists_) return;
    float value = Sum(a, partials, tokens, tile_row_) * scale_;
    if (a.silu_mul) {
      const float up = Sum(a, partials, tokens, tile_row_ + 8) * up_scale_;
      value = value / (1.0f + __expf(-value)) * up;
    }
    if (a.bias != nullptr) value += static_cast<float>(bias_);
    if (a.add != nullptr) value += static_cast<float>(add_);
    const int64_t to = token_ * a.y_stride + column_;
    if (a.is_y_f32) {
      static_cast<float*>(a.y)[to] = value;
    } else {
      static_cast<Type*>(a.y)[to] = Element::FromFloat(value);
    }
  }

 private:
  __device__ __forceinline__ float Sum(const SkinnyArgs& a, const float* partials, int tokens,
                                       int tile_row) const {
    const int pitch = a.tile_rows + kSkinnyPartialPadding;
    float value = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kSkinnyMmaWarps; ++warp) {
      value += partials[(warp * tokens + token_) * pitch + tile_row];
    }
    return value;
  }

  int token_;
  int tile_row_;
  int column_;
  bool exists_;
  float scale_ = 1.0f;
  float up_scale_ = 1.0f;
  Type bias_;  // as they were read: using them would wait for them
  Type add_;
};

}  // namespace mili::kernels::cuda::skinny

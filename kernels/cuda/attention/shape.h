// What both kinds of attention ask of a shape. Plain C++.
#pragma once

#include "kernels/cuda/attention/paged_attention.h"

namespace mili::kernels::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;

inline int32_t GroupOf(const AttentionShape& shape) { return shape.num_heads / shape.num_kv_heads; }

inline bool IsSupported(const AttentionShape& shape) {
  if (shape.dtype != DType::kBF16 && shape.dtype != DType::kF16) return false;
  if (shape.head_dim != 64 && shape.head_dim != 128) return false;
  if (shape.num_kv_heads <= 0 || shape.num_heads % shape.num_kv_heads != 0) return false;
  const int32_t group = GroupOf(shape);
  return (group >= 1 && group <= 8) || group == 16;
}

}  // namespace mili::kernels::cuda

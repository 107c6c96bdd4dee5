// From run-time dtype and row length to a kernel's template arguments. Included by .cu files only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <type_traits>

#include "common/base/dtype.h"

namespace mili::kernels::cuda {

template <typename T>
struct TypeTag {
  using Type = T;
};

// Calls launch(TypeTag<T>) for a 16-bit float type; cudaErrorInvalidValue for another.
template <typename LaunchFn>
cudaError_t ForHalfType(DType dtype, LaunchFn&& launch) {
  if (dtype == DType::kBF16) return launch(TypeTag<__nv_bfloat16>());
  if (dtype == DType::kF16) return launch(TypeTag<__half>());
  return cudaErrorInvalidValue;
}

// Calls launch(TypeTag<T>, vectors a thread) for a row of num_vecs vectors held by one block: one a
// thread while that needs at most kFewThreads threads, more for longer rows, so that a block stays
// small enough for several on an SM.
template <int kFewThreads, int kMaxVecs, typename LaunchFn>
cudaError_t ForRow(DType dtype, int32_t num_vecs, LaunchFn&& launch) {
  static_assert(kMaxVecs <= 4 * 1024);
  if (num_vecs > kMaxVecs) return cudaErrorInvalidValue;
  return ForHalfType(dtype, [&](auto type) {
    if (num_vecs <= kFewThreads) return launch(type, std::integral_constant<int, 1>());
    if (num_vecs <= 2 * kFewThreads) return launch(type, std::integral_constant<int, 2>());
    return launch(type, std::integral_constant<int, 4>());
  });
}

}  // namespace mili::kernels::cuda

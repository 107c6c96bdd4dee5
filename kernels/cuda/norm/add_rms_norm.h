// RMSNorm with the residual addition in front of it, on the device. Graph-capturable: no
// allocation, no synchronisation; all arrays are device memory, read when the kernel runs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/base/dtype.h"
#include "kernels/cuda/common/fp8.h"

namespace mili::kernels::cuda {

// residual += delta (unless delta is null), rounded to dtype; out = residual / rms(residual) *
// weight with rms(v) = sqrt(mean(v^2) + eps). Sums in fp32, one rounding at the end.
//
// With row_idxs it gathers: out row i is made of row row_idxs[i] of residual and delta, and
// residual is not written (a row may be gathered twice); a row with a negative index becomes zeros.
struct AddRmsNormParams {
  DType dtype = DType::kBF16;         // of residual, delta, weight and out: kBF16 or kF16
  void* residual = nullptr;           // [num_tokens, hidden_size], contiguous, 16-aligned
  const void* delta = nullptr;        // as residual, or null
  const void* weight = nullptr;       // [hidden_size], 16-aligned
  const int32_t* row_idxs = nullptr;  // [num_tokens] or null
  float eps = 1e-6f;
  int32_t num_tokens = 0;   // rows of out
  int32_t hidden_size = 0;  // a multiple of 8, at most 16384
  void* out = nullptr;      // [num_tokens, hidden_size], 16-aligned; may be null with fp8
  Fp8Rows fp8;
  bool pdl = false;  // see kernels/cuda/common/launch.h
};

// cudaErrorInvalidValue for a shape or dtype not allowed above.
cudaError_t AddRmsNorm(const AddRmsNormParams& params, cudaStream_t stream);

}  // namespace mili::kernels::cuda

// Rows of 16-bit floats to fp8 (e4m3), a scale per row: activations that no fused kernel quantises
// (the attention output), and weights at load (a row is an output channel). Graph-capturable: no
// allocation, no synchronisation; all arrays are device memory, read when the kernel runs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/base/dtype.h"
#include "kernels/cuda/common/fp8.h"

namespace mili::kernels::cuda {

struct QuantizeFp8Params {
  DType dtype = DType::kBF16;  // of in: kBF16 or kF16
  const void* in = nullptr;    // [num_rows, size], 16-aligned
  int64_t in_stride = 0;       // in elements, a multiple of 8
  int32_t num_rows = 0;
  int32_t size = 0;  // a multiple of 8, at most 32768
  Fp8Rows out;       // values [num_rows, size]
  bool pdl = false;  // see kernels/cuda/common/launch.h
};

// cudaErrorInvalidValue for a shape or dtype not allowed above.
cudaError_t QuantizeFp8(const QuantizeFp8Params& params, cudaStream_t stream);

}  // namespace mili::kernels::cuda

// SiLU(gate) * up on the device. Graph-capturable: no allocation, no synchronisation; all arrays
// are device memory, read when the kernel runs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/base/dtype.h"
#include "kernels/cuda/common/fp8.h"

namespace mili::kernels::cuda {

// out = silu(gate) * up with silu(x) = x / (1 + exp(-x)), computed in fp32. gate and up come
// interleaved in groups of 8: element 16 g + i of a row of gate_up is gate[8 g + i], element
// 16 g + 8 + i is up[8 g + i].
struct SiluMulParams {
  DType dtype = DType::kBF16;     // of gate_up and out: kBF16 or kF16
  const void* gate_up = nullptr;  // [num_tokens, 2 * size], contiguous, 16-aligned
  int32_t num_tokens = 0;
  int32_t size = 0;     // a multiple of 8, at most 32768
  void* out = nullptr;  // [num_tokens, size], contiguous, 16-aligned; may be null with fp8
  Fp8Rows fp8;
  bool pdl = false;  // see kernels/cuda/common/launch.h
};

// cudaErrorInvalidValue for a shape or dtype not allowed above.
cudaError_t SiluMul(const SiluMulParams& params, cudaStream_t stream);

}  // namespace mili::kernels::cuda

// The driver's function that describes a tensor to the copy engine (a CUtensorMap), found at run
// time: the same binary starts where there is no driver. Host code, any thread; keeps nothing.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

namespace mili::kernels::cuda {

using TensorMapEncoder = decltype(&cuTensorMapEncodeTiled);

// cudaErrorNotSupported: the driver is older than CUDA 12.
inline cudaError_t FindTensorMapEncoder(TensorMapEncoder* encode) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry,
                                                             12000, cudaEnableDefault, &found);
  if (error != cudaSuccess) return error;
  if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
  *encode = reinterpret_cast<TensorMapEncoder>(entry);
  return cudaSuccess;
}

}  // namespace mili::kernels::cuda

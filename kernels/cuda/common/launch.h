// Launching kernels and chaining them without gaps. With programmatic dependent launch (PDL) a
// kernel may start while the one before it on the stream still runs; it must then call
// WaitForProducers() on every path before it first reads what others wrote and before its first
// write. Included by .cu files only; any thread, no state.
#pragma once

#include <cuda_runtime.h>

#include <utility>

namespace mili::kernels::cuda {

// Launches `kernel`. `pdl` marks the edge from the kernel before it as programmatic: only for a
// kernel that calls WaitForProducers, on a device of compute capability 9.0 or more.
template <typename... Params, typename... Args>
cudaError_t Launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, bool pdl,
                   cudaStream_t stream, Args&&... args) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = pdl ? 1 : 0;
  const cudaError_t error =
      cudaLaunchKernelEx(&config, kernel, Params(std::forward<Args>(args))...);
  const cudaError_t last = cudaGetLastError();  // also forgets what is reported here
  return error != cudaSuccess ? error : last;
}

// Returns when the kernels before this one have completed and their writes are visible. Costs
// nothing in a kernel that was launched without PDL.
__device__ __forceinline__ void WaitForProducers() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel start once every block has called this or ended; says nothing about writes.
__device__ __forceinline__ void LetDependentsStart() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace mili::kernels::cuda

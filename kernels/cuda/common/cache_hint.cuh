// How long copied data stays in the L2. A policy is an operand of copies (cp_async.cuh,
// bulk_copy.cuh).
#pragma once

#include <cstdint>

namespace mili::kernels::cuda {

// For data that is read once in a step: it leaves the L2 first.
__device__ __forceinline__ uint64_t EvictFirst() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

}  // namespace mili::kernels::cuda

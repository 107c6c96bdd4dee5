// Asynchronous copies of 16 bytes from global to shared memory, past the L1. A thread's copies form
// groups; waiting for a group makes them visible to that thread, a barrier to the others.
#pragma once

#include <cstdint>

namespace mili::kernels::cuda {

__device__ __forceinline__ void CopyAsync16(uint32_t shared_address, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared_address),
               "l"(global)
               : "memory");
}

// Writes zeros and reads nothing unless `is_valid`.
__device__ __forceinline__ void CopyAsync16OrZero(uint32_t shared_address, const void* global,
                                                  bool is_valid) {
  const int bytes = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address),
               "l"(global), "r"(bytes)
               : "memory");
}

// With a policy of cache_hint.cuh.
__device__ __forceinline__ void CopyAsync16OrZero(uint32_t shared_address, const void* global,
                                                  bool is_valid, uint64_t policy) {
  const int bytes = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, %3;" ::"r"(
                   shared_address),
               "l"(global), "r"(bytes), "l"(policy)
               : "memory");
}

__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most `kPending` of this thread's groups are still under way.
template <int kPending>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace mili::kernels::cuda

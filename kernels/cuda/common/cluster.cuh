// Blocks of a cluster: their barriers, and reading each other's shared memory. For compute
// capability 9.0 and up; elsewhere nothing here may be called.
#pragma once

#include <cstdint>

namespace mili::kernels::cuda {

// All threads of all blocks of the cluster; what was written before is visible after.
__device__ __forceinline__ void SyncCluster() {
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;" ::
          : "memory");
}

// Reads 16 bytes at the place that `shared_address` has in block `rank` of the cluster.
__device__ __forceinline__ float4 LoadOfBlock(uint32_t shared_address, uint32_t rank) {
  float4 v;
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n}\n"
      : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
      : "r"(shared_address), "r"(rank)
      : "memory");
  return v;
}

// Arrives at the mbarrier that lies at `barrier` in block `rank` of the cluster.
__device__ __forceinline__ void ArriveOfBlock(uint32_t barrier, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(barrier),
      "r"(rank)
      : "memory");
}

}  // namespace mili::kernels::cuda

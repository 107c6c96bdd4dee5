// Words that pass from block to block while both run: 32 bits of data and a tag that says of which
// layer of which launch they are. A word is written and read at once, so who sees the tag has the
// data: there are no fences, flags or barriers of the grid. Tags only grow, and nothing is cleared:
// a block writes the words of a layer only after it has read others that depend on all that was
// read of the layer before.
#pragma once

#include <cstdint>

namespace mili::kernels::cuda {
namespace decode_layers {

__device__ __forceinline__ uint64_t Word(uint32_t data, uint32_t tag) {
  return uint64_t{tag} << 32 | data;
}

__device__ __forceinline__ void Publish(uint64_t* to, uint32_t data, uint32_t tag) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(Word(data, tag)) : "memory");
}
__device__ __forceinline__ void PublishTwo(uint64_t* to, uint32_t data0, uint32_t data1,
                                           uint32_t tag) {
  asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(Word(data0, tag)),
               "l"(Word(data1, tag))
               : "memory");
}

__device__ __forceinline__ void Look(const uint64_t* from, uint64_t& word) {
  asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(word) : "l"(from) : "memory");
}
__device__ __forceinline__ void LookTwo(const uint64_t* from, uint64_t& word0, uint64_t& word1) {
  asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];"
               : "=l"(word0), "=l"(word1)
               : "l"(from)
               : "memory");
}

// Zero if the word has the tag.
__device__ __forceinline__ uint32_t Missing(uint64_t word, uint32_t tag) {
  return static_cast<uint32_t>(word >> 32) ^ tag;
}
__device__ __forceinline__ uint32_t DataOf(uint64_t word) { return static_cast<uint32_t>(word); }

// Calls look(), which returns zero once all words are there. A block that never comes is a bug:
// better a launch that fails, after seconds, than a device that hangs.
template <typename LookFn>
__device__ __forceinline__ void Poll(LookFn&& look) {
  for (uint32_t tries = 0; look() != 0; ++tries) {
    if (tries > (1u << 23)) __trap();
  }
  __syncwarp();
}

}  // namespace decode_layers
}  // namespace mili::kernels::cuda

#include "worker/device/kv_arena.h"

#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace mili::worker {

absl::StatusOr<KvArena> KvArena::Allocate(const KvSpec& spec, uint32_t num_pages) {
  KvArena arena;
  arena.spec_ = spec;
  arena.num_pages_ = num_pages;
  MILI_ASSIGN_OR_RETURN(arena.memory_,
                        DeviceMemory::Allocate(arena.size_bytes(), DeviceMemory::Pages::kSmall,
                                               "the KV cache (--kv-cache-memory-bytes)"));
  return arena;
}

kernels::KvLayer KvArena::Layer(uint32_t layer_idx) const {
  MILI_CHECK(layer_idx < spec_.num_layers, "no such layer");
  const uint64_t head = uint64_t{spec_.page_size_tokens} * spec_.head_dim;
  const uint64_t half = head * spec_.num_kv_heads;  // K or V of a page
  const uint64_t element_bytes = TraitsOf(spec_.dtype).block_bytes;
  kernels::KvLayer layer;
  layer.dtype = spec_.dtype;
  layer.k = memory_.data() + uint64_t{layer_idx} * num_pages_ * 2 * half * element_bytes;
  layer.v = layer.k + half * element_bytes;
  layer.page_stride = static_cast<int64_t>(2 * half);
  layer.head_stride = static_cast<int64_t>(head);
  layer.page_size_tokens = spec_.page_size_tokens;
  return layer;
}

}  // namespace mili::worker

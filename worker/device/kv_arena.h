// KvArena: the memory of all KV pages, [layer][page][K, V][kv_head][token][dim]. Who holds which
// page is the router's to know; this only stores. Counted by the process where touched.
#pragma once

#include <absl/status/statusor.h>

#include "common/core/memory_plan.h"
#include "kernels/params.h"
#include "worker/device/memory.h"

namespace mili::worker {

class KvArena {
 public:
  static absl::StatusOr<KvArena> Allocate(const KvSpec& spec, uint32_t num_pages);

  // The pages of one layer, for kernels. Lives as long as the arena.
  kernels::KvLayer Layer(uint32_t layer_idx) const;
  const KvSpec& spec() const { return spec_; }
  uint32_t num_pages() const { return num_pages_; }
  uint64_t size_bytes() const { return spec_.bytes_per_page() * num_pages_; }

 private:
  KvSpec spec_;
  uint32_t num_pages_ = 0;
  DeviceMemory memory_;
};

}  // namespace mili::worker

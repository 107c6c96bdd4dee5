// Asks for huge pages where a lot of memory is about to be filled or looked into at random: they
// are quicker to get and to reach. A hint; any thread.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace mili {

// For memory that is there but was not touched yet, of any alignment; small pages stay where it is
// no whole huge page, or the system has none to give.
inline void PreferHugePages(void* memory, size_t size_bytes) {
  constexpr uintptr_t kPage = 4096, kHugePage = uintptr_t{2} << 20;
  if (size_bytes < kHugePage) return;
  const auto begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<uintptr_t>(memory) + size_bytes) / kPage * kPage;
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

}  // namespace mili

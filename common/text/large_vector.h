// A vector for tables that are looked into at random: from a size on its memory is huge pages where
// the system has some to give, which are quicker to get and to reach. Otherwise a std::vector.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <vector>

namespace mili::text {

template <typename T>
struct LargeAllocator {
  using value_type = T;
  static constexpr size_t kHugePage = size_t{2} << 20;

  LargeAllocator() = default;
  template <typename U>
  explicit LargeAllocator(const LargeAllocator<U>&) {}

  T* allocate(size_t count) {
    const size_t size = count * sizeof(T);
    if (size < kHugePage / 2) return static_cast<T*>(::operator new(size));
    void* const memory = ::operator new(size, std::align_val_t(kHugePage));
    // The rest of the last page belongs to others, whom it does no harm. Refused: small pages.
    (void)madvise(memory, size, MADV_HUGEPAGE);
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t count) {
    if (count * sizeof(T) < kHugePage / 2) return ::operator delete(memory);
    ::operator delete(memory, std::align_val_t(kHugePage));
  }
  friend bool operator==(LargeAllocator, LargeAllocator) { return true; }
};

template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

}  // namespace mili::text

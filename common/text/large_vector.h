// Memory for tables that are looked into at random: huge pages where the system has some to give,
// which are quicker to get and to reach. LargeVector is a std::vector otherwise; LargeZeros is an
// array of zeros that takes no memory where nobody was. No thread of its own.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "common/base/huge_pages.h"

namespace mili::text {

template <typename T>
struct LargeAllocator {
  using value_type = T;
  static constexpr size_t kHugePage = size_t{2} << 20;

  LargeAllocator() = default;
  template <typename U>
  explicit LargeAllocator(const LargeAllocator<U>&) {}

  T* allocate(size_t count) {
    size_t size = count * sizeof(T);
    if (size < kHugePage / 2) return static_cast<T*>(::operator new(size));
    size = (size + kHugePage - 1) / kHugePage * kHugePage;  // part of a huge page is no huge page
    void* const memory = ::operator new(size, std::align_val_t(kHugePage));
    PreferHugePages(memory, size);
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

// Of numbers, or of structs of numbers; may be written through const, by atomic_ref.
template <typename T>
class LargeZeros {
 public:
  // If there is no memory it is empty.
  explicit LargeZeros(size_t size) : size_bytes_(size * sizeof(T)) {
    // Room to begin at a huge page.
    void* const memory = mmap(nullptr, size_bytes_ + kHugePage, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return;
    mapped_ = memory;
    const auto address = reinterpret_cast<uintptr_t>(memory);
    data_ = reinterpret_cast<T*>((address + kHugePage - 1) / kHugePage * kHugePage);
    PreferHugePages(data_, size_bytes_);
  }
  LargeZeros(const LargeZeros&) = delete;
  LargeZeros& operator=(const LargeZeros&) = delete;
  ~LargeZeros() {
    if (mapped_ != nullptr) munmap(mapped_, size_bytes_ + kHugePage);
  }

  bool empty() const { return data_ == nullptr; }
  T* data() const { return data_; }
  T& operator[](size_t at) const { return data_[at]; }

 private:
  static constexpr size_t kHugePage = LargeAllocator<T>::kHugePage;
  size_t size_bytes_;
  void* mapped_ = nullptr;
  T* data_ = nullptr;
};

}  // namespace mili::text

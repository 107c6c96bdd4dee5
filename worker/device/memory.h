// DeviceMemory: one run of zeroed bytes from the system, counted by the process only where it has
// been touched. Freed on destruction; moves, never copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include <absl/status/statusor.h>

namespace mili::worker {

class DeviceMemory {
 public:
  // kHuge: back it with large pages where the system can (weights: all of it gets touched). kSmall:
  // never, so that touching a page costs no more than a page (KV, workspace).
  enum class Pages { kHuge, kSmall };

  DeviceMemory() = default;
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }

  // RESOURCE_EXHAUSTED naming `purpose` and the size.
  static absl::StatusOr<DeviceMemory> Allocate(uint64_t size_bytes, Pages pages,
                                               const char* purpose);

  // At least 4096-aligned; kHuge: 2 MiB.
  std::byte* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
};

// Hands out parts of a DeviceMemory, each on a cache line. Dry (without memory) it only counts, so
// that one function both measures and lays out.
class Carver {
 public:
  explicit Carver(std::byte* base = nullptr) : base_(base) {}

  template <typename T>
  T* Take(uint64_t count) {
    T* part = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_bytes_);
    used_bytes_ += (count * sizeof(T) + 63) / 64 * 64;
    return part;
  }
  uint64_t used_bytes() const { return used_bytes_; }

 private:
  std::byte* base_;
  uint64_t used_bytes_ = 0;
};

}  // namespace mili::worker

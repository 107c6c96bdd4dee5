// Memory of the GPU, and pinned memory of the host that the GPU copies from and to. Each is one run
// of bytes, taken before the worker is ready; moves, never copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <absl/status/statusor.h>

namespace mili::worker {

class CudaMemory {
 public:
  CudaMemory() = default;
  ~CudaMemory();
  CudaMemory(CudaMemory&& other) noexcept { *this = std::move(other); }
  CudaMemory& operator=(CudaMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }
  // Not zeroed. RESOURCE_EXHAUSTED naming `purpose` and the size.
  static absl::StatusOr<CudaMemory> Allocate(uint64_t size_bytes, const char* purpose);

  std::byte* data() const { return data_; }  // device memory, 256-aligned
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
};

class PinnedMemory {
 public:
  PinnedMemory() = default;
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&& other) noexcept { *this = std::move(other); }
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }
  static absl::StatusOr<PinnedMemory> Allocate(uint64_t size_bytes, const char* purpose);

  std::byte* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
};

}  // namespace mili::worker

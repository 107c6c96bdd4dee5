#include "worker/device/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

namespace mili::worker {
namespace {

constexpr uint64_t kHugePageBytes = 2ull << 20;

}  // namespace

DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) munmap(data_, size_bytes_);
}

absl::StatusOr<DeviceMemory> DeviceMemory::Allocate(uint64_t size_bytes, Pages pages,
                                                    const char* purpose) {
  const uint64_t granule = pages == Pages::kHuge ? kHugePageBytes : 4096;
  const auto failure = [&](const char* cause) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot get ", size_bytes, " bytes of memory for ", purpose, ": ", cause));
  };
  if (size_bytes > UINT64_MAX / 2) return failure("no machine has that much");
  const uint64_t size = std::max<uint64_t>((size_bytes + granule - 1) / granule, 1) * granule;
  // A granule more, of which the unaligned ends are given back.
  const uint64_t reach = pages == Pages::kHuge ? size + granule : size;
  void* mapped = mmap(nullptr, reach, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return failure(std::strerror(errno));
  std::byte* data = static_cast<std::byte*>(mapped);
  if (pages == Pages::kHuge) {
    const uint64_t lead = (granule - reinterpret_cast<uintptr_t>(data) % granule) % granule;
    if (lead > 0) munmap(data, lead);
    if (granule > lead) munmap(data + lead + size, granule - lead);
    data += lead;
  }
  // Advice only: a kernel without large pages serves as well.
  madvise(data, size, pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  DeviceMemory memory;
  memory.data_ = data;
  memory.size_bytes_ = size;
  return memory;
}

}  // namespace mili::worker

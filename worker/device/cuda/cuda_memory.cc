#include "worker/device/cuda/cuda_memory.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "worker/device/cuda/cuda_status.h"

namespace mili::worker {
namespace {

absl::Status Explain(cudaError_t error, const char* kind, uint64_t size_bytes,
                     const char* purpose) {
  if (error == cudaSuccess) return absl::OkStatus();
  cudaGetLastError();  // a refused allocation is not the next call's error
  return ToStatus(
      error,
      absl::StrCat("cannot get ", size_bytes, " bytes of ", kind, " memory for ", purpose).c_str());
}

}  // namespace

CudaMemory::~CudaMemory() {
  if (data_ != nullptr) cudaFree(data_);
}

absl::StatusOr<CudaMemory> CudaMemory::Allocate(uint64_t size_bytes, const char* purpose) {
  CudaMemory memory;
  void* data = nullptr;
  MILI_RETURN_IF_ERROR(
      Explain(cudaMalloc(&data, std::max<uint64_t>(size_bytes, 256)), "GPU", size_bytes, purpose));
  memory.data_ = static_cast<std::byte*>(data);
  memory.size_bytes_ = size_bytes;
  return memory;
}

PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(uint64_t size_bytes, const char* purpose) {
  PinnedMemory memory;
  void* data = nullptr;
  MILI_RETURN_IF_ERROR(Explain(cudaMallocHost(&data, std::max<uint64_t>(size_bytes, 256)), "pinned",
                               size_bytes, purpose));
  memory.data_ = static_cast<std::byte*>(data);
  memory.size_bytes_ = size_bytes;
  return memory;
}

}  // namespace mili::worker

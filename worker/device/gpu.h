// Gpu: one NVIDIA GPU as this process found it, or why there is none. The one header of the device
// folder that is the same in a build without CUDA. Immutable; any thread.
#pragma once

#include <cstdint>
#include <string>

#include <absl/status/statusor.h>

namespace mili::worker {

struct Gpu {
  int index = 0;
  std::string name;            // "NVIDIA H100 80GB HBM3"
  int compute_capability = 0;  // 90 for 9.0
  int num_sms = 0;
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // when it was opened, this process's context already taken
  int driver_version = 0;   // 13000 for CUDA 13.0: the newest CUDA that the driver serves
  // "NVIDIA H100 80GB HBM3, 79.1 GiB, CUDA 13.0".
  std::string Describe() const;
};

// Opens the first GPU and makes it the current one of the calling thread; takes up to half a
// second. NOT_FOUND: no GPU or no driver. UNIMPLEMENTED: a build without CUDA. FAILED_PRECONDITION:
// there is one that cannot be used (GPU or driver too old, no permission). Either is one line with
// the remedy.
absl::StatusOr<Gpu> OpenGpu();

}  // namespace mili::worker

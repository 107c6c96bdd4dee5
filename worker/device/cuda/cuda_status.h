// CUDA errors as absl::Status, and the calls of this folder's classes. Included by worker/device
// and worker/ops only.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include <absl/status/status.h>

namespace mili::worker {

// OK, or an error that names what was tried, CUDA's name of the error and its meaning.
// RESOURCE_EXHAUSTED for memory; INTERNAL otherwise.
absl::Status ToStatus(cudaError_t error, const char* what);

}  // namespace mili::worker

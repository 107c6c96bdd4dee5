#include "worker/device/gpu.h"

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "common/base/status_macros.h"
#include "worker/device/cuda/cuda_status.h"

namespace mili::worker {
namespace {

constexpr int kOldestComputeCapability = 80;

std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

// Why there is no device, for people.
absl::Status NoDevice(cudaError_t error) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  const std::string needed = VersionText(CUDART_VERSION / 1000 * 1000);
  if (error == cudaErrorInsufficientDriver && driver != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the NVIDIA driver is too old: it serves CUDA ", VersionText(driver),
                     ", needed is ", needed, "; install driver 580 or newer"));
  }
  // The device files exist where the kernel's part of the driver is loaded.
  const bool has_file = access("/dev/nvidiactl", F_OK) == 0;
  if (has_file && access("/dev/nvidiactl", R_OK | W_OK) != 0) {
    return absl::FailedPreconditionError(
        "no permission to use the GPU: /dev/nvidiactl cannot be opened; give this user or "
        "container access to /dev/nvidia*");
  }
  if (driver == 0) {
    if (!has_file) {
      return absl::NotFoundError(
          "no NVIDIA GPU: there is no driver; with a GPU, install NVIDIA's, 580 or newer");
    }
    return absl::FailedPreconditionError(
        "the NVIDIA driver's libcuda.so.1 cannot be opened; in a container, start it with the "
        "NVIDIA runtime");
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) {
    return absl::NotFoundError("no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES may hide them)");
  }
  switch (error) {
    case cudaErrorSystemDriverMismatch:
      return absl::FailedPreconditionError(
          "the NVIDIA driver's library and kernel module are of different versions; restart the "
          "machine, or the container with the host's driver");
    case cudaErrorNotPermitted:
    case cudaErrorOperatingSystem:
      return absl::FailedPreconditionError(
          "no permission to use the GPU; give this user or container access to /dev/nvidia*");
    case cudaErrorDevicesUnavailable:
      return absl::FailedPreconditionError(
          "the GPU is taken: another process holds it alone; end that one, or allow several with "
          "nvidia-smi -c 0");
    case cudaErrorSystemNotReady:
      return absl::FailedPreconditionError(
          "the GPU is not ready yet; where GPUs are joined by NVSwitch, nvidia-fabricmanager must "
          "run");
    default:
      return absl::FailedPreconditionError(absl::StrCat(
          "the GPU cannot be used: ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
  }
}

}  // namespace

std::string Gpu::Describe() const {
  return absl::StrFormat("%s, %.1f GiB, CUDA %s", name,
                         static_cast<double>(total_bytes) / (1ull << 30),
                         VersionText(driver_version));
}

absl::StatusOr<Gpu> OpenGpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) return NoDevice(error);
  Gpu gpu;
  cudaDeviceProp properties;
  if (const cudaError_t e = cudaGetDeviceProperties(&properties, gpu.index); e != cudaSuccess) {
    return NoDevice(e);
  }
  gpu.name = properties.name;
  gpu.compute_capability = properties.major * 10 + properties.minor;
  gpu.num_sms = properties.multiProcessorCount;
  if (gpu.compute_capability < kOldestComputeCapability) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s is too old: compute capability %d.%d, needed is 8.0 (Ampere) or newer",
                        gpu.name, properties.major, properties.minor));
  }
  if (const cudaError_t e = cudaSetDevice(gpu.index); e != cudaSuccess) return NoDevice(e);
  size_t free_bytes = 0, total_bytes = 0;
  if (const cudaError_t e = cudaMemGetInfo(&free_bytes, &total_bytes); e != cudaSuccess) {
    return NoDevice(e);
  }
  gpu.free_bytes = free_bytes;
  gpu.total_bytes = total_bytes;
  MILI_RETURN_IF_ERROR(ToStatus(cudaDriverGetVersion(&gpu.driver_version), "asking the driver"));
  return gpu;
}

}  // namespace mili::worker

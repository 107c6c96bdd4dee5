#include "worker/device/gpu.h"

namespace mili::worker {

std::string Gpu::Describe() const { return name; }

absl::StatusOr<Gpu> OpenGpu() {
  return absl::UnimplementedError("this build has no CUDA: build it with the cuda preset");
}

}  // namespace mili::worker

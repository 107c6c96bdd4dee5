#include "worker/engine/gpu_runner.h"

namespace mili::worker {

GpuWeightsFacts GpuWeightsOf(const ModelSource&, bool) { return {}; }

absl::StatusOr<std::unique_ptr<StepRunner>> LoadGpuRunner(const ModelSource&,
                                                          const GpuRunnerOptions&) {
  return absl::UnimplementedError("this build has no CUDA: build it with the cuda preset");
}

}  // namespace mili::worker

#include "worker/engine/gpu_runner.h"

#include <utility>

#include "common/base/status_macros.h"
#include "worker/engine/cuda/cuda_runner.h"

namespace mili::worker {
namespace {

// A first start takes so much longer; later ones find most choices in the file.
constexpr double kMaxTuningSeconds = 0.8;

}  // namespace

GpuWeightsFacts GpuWeightsOf(const ModelSource& source, bool is_fp8) {
  return {CudaWeights::DTypeFor(source), CudaWeights::BytesNeeded(source, is_fp8)};
}

absl::StatusOr<std::unique_ptr<StepRunner>> LoadGpuRunner(const ModelSource& source,
                                                          const GpuRunnerOptions& options) {
  MILI_ASSIGN_OR_RETURN(CudaWeights weights,
                        CudaWeights::Load(source, {.is_fp8 = options.is_fp8,
                                                   .num_threads = options.num_threads,
                                                   .kernels = options.kernels,
                                                   .progress = options.progress,
                                                   .cancelled = options.cancelled}));
  MILI_ASSIGN_OR_RETURN(
      std::unique_ptr<CudaModel> model,
      CudaModel::Create(
          {.config = source.config(),
           .plan = options.plan,
           .num_sms = options.gpu.num_sms,
           .compute_capability = options.gpu.compute_capability,
           .num_valid_tokens = options.num_valid_tokens ? options.num_valid_tokens() : 0,
           .tuning = options.tunes ? LinearTuningOptions{.folder = UserCacheFolder(),
                                                         .max_seconds = kMaxTuningSeconds}
                                   : LinearTuningOptions()},
          std::move(weights)));
  return CudaRunner::Create(std::move(model));
}

}  // namespace mili::worker

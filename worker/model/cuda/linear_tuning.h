// Chooses the kernels of a loaded model's matrix products: from a file of earlier starts with the
// same GPU, driver and library, and for products that the file lacks by timing them on the loaded
// weights. Runs once, before serving; blocks its thread; leaves anything in the workspace.
#pragma once

#include <string>

#include <absl/status/statusor.h>

#include "common/core/memory_plan.h"
#include "common/core/model_config.h"
#include "worker/device/cuda/cuda_stream.h"
#include "worker/model/cuda/cuda_weights.h"
#include "worker/model/cuda/cuda_workspace.h"

namespace mili::worker {

struct LinearTuningOptions {
  // Where the file lies; made if it is not there. Empty: no file.
  std::string folder;
  // Longest time for products that the file lacks; what is left over is done by the next start.
  double max_seconds = 0;
  bool pdl = false;  // as in the steps
};

// Mili's folder in the user's cache (XDG_CACHE_HOME or HOME), or empty.
std::string UserCacheFolder();

struct LinearTuningReport {
  double seconds = 0.0;
  // Why the file gave nothing, or could not be written; neither stops a start. Empty: all went
  // well.
  std::string read_error;
  std::string write_error;
};

absl::StatusOr<LinearTuningReport> TuneLinear(const ModelConfig& config, const MemoryPlan& plan,
                                              const CudaWeights& weights,
                                              const CudaWorkspace& workspace,
                                              const LinearTuningOptions& options,
                                              gpu::k::LinearContext* linear, CudaStream* stream);

}  // namespace mili::worker

// GpuRunner: what runs a model's steps on a GPU, made from files. The same in a build without CUDA,
// where it says so.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include <absl/status/statusor.h>

#include "common/core/memory_plan.h"
#include "common/formats/model_source.h"
#include "kernels/params.h"
#include "worker/device/gpu.h"
#include "worker/engine/step_runner.h"
#include "worker/model/weights.h"

namespace mili::worker {

// What weights, activations and KV are on the GPU, and what the weights will hold, to the byte.
struct GpuWeightsFacts {
  DType dtype = DType::kBF16;
  uint64_t size_bytes = 0;
};
GpuWeightsFacts GpuWeightsOf(const ModelSource& source, bool is_fp8);

struct GpuRunnerOptions {
  Gpu gpu;
  MemoryPlan plan;
  bool is_fp8 = false;  // quantise the matrices of the layers
  bool tunes = true;    // choose the kernels of products by timing them
  // Whose embed takes quantised rows apart.
  const kernels::CpuKernels* kernels = nullptr;
  int num_threads = 8;  // that read the weights
  Weights::Progress progress;
  const std::atomic<bool>* cancelled = nullptr;  // may be null
  // Asked once the weights are read: ids the tokenizer knows, 0 if that is not known.
  std::function<uint32_t()> num_valid_tokens;
};
// Reads the weights and allocates all that the plan names. UNIMPLEMENTED for a model that the GPU's
// kernels cannot compute; else as Weights::Load.
absl::StatusOr<std::unique_ptr<StepRunner>> LoadGpuRunner(const ModelSource& source,
                                                          const GpuRunnerOptions& options);

}  // namespace mili::worker

// Which KV a step brings into the L2 ahead of its decode attention. A pure function of the model
// and the step's shape, so that captured graphs keep it; any thread. Never reads device memory.
#pragma once

#include "common/core/model_config.h"
#include "worker/model/cuda/cuda_model.h"
#include "worker/model/cuda/cuda_workspace.h"
#include "worker/ops/cuda/cuda_ops.h"

namespace mili::worker {

// Nothing (a null plan) where it does not pay. is_fp8: the weights.
gpu::k::KvAhead KvAheadOf(const ModelConfig& config, const CudaWorkspace& ws,
                          const CudaStepShape& shape, bool is_fp8);

}  // namespace mili::worker

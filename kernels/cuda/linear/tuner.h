// Finds the fastest cublasLt algorithm of a shape by running the candidates over rotating weights.
// Blocks its thread and its stream; never during serving.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/linear/algo_table.h"
#include "kernels/cuda/linear/cublaslt.h"
#include "kernels/cuda/linear/linear.h"

namespace mili::kernels::cuda {

struct TunerOptions {
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
  int max_candidates = 24;
};

// The fastest candidate, or cudaErrorNotSupported when none runs. request.params.y is overwritten.
cudaError_t TuneMatmul(const CublasLt& lt, const LinearTuneRequest& request,
                       const TunerOptions& options, cudaStream_t stream, AlgoTable::Entry* best);

}  // namespace mili::kernels::cuda

// Finds the fastest kernel of a shape by running the candidates over rotating weights. Blocks its
// thread and its stream; never during serving.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "kernels/cuda/linear/algo_table.h"
#include "kernels/cuda/linear/linear.h"

namespace mili::kernels::cuda {

// Runs a call by the kernel and algorithm of `entry`.
using RunCandidate =
    std::function<cudaError_t(const LinearParams& params, const AlgoTable::Entry& entry)>;

// The fastest of `candidates` with the time that it took, or cudaErrorNotSupported when none runs.
// request.params.y is overwritten.
cudaError_t TuneLinear(const LinearTuneRequest& request,
                       const std::vector<AlgoTable::Entry>& candidates, const RunCandidate& run,
                       cudaStream_t stream, AlgoTable::Entry* best);

}  // namespace mili::kernels::cuda

// The linear layer for at most kMaxSkinnyRows rows, bound by the reading of the weights: persistent
// blocks stream tiles of weight rows through a ring in shared memory, and a tile is the 16-row
// operand of the tensor cores, the tokens their 8-column one. Needs compute capability 9.0.
//
// A row's numbers depend neither on the other rows nor on their count. No atomics, no workspace.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/linear/linear.h"

namespace mili::kernels::cuda {

// Of the device; what the plan of a call follows from.
struct SkinnyDevice {
  int32_t num_sms = 0;
  int32_t shared_bytes = 0;  // a block may have, opted in
  // With at most so many, the next kernel's block fits beside one and fetches weights early.
  int32_t paired_shared_bytes = 0;
};

// Whether SkinnyLinear runs this call; k must be a multiple of 64.
bool SkinnyTakes(const LinearParams& params, const SkinnyDevice& device);

// Reads the limits of device `device`.
cudaError_t GetSkinnyDevice(int device, SkinnyDevice* limits);

// Once a device, before the first call: lets the kernels use their shared memory, and loads them.
cudaError_t PrepareSkinny(const SkinnyDevice& device);

// As LinearContext::Linear. cudaErrorInvalidValue where SkinnyTakes says no.
cudaError_t SkinnyLinear(const LinearParams& params, const SkinnyDevice& device,
                         cudaStream_t stream);

}  // namespace mili::kernels::cuda

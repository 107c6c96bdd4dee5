// Gate and up with SiLU for many rows: a persistent kernel of warpgroup products, in tiles of 256
// tokens by 128 or 192 weight rows, two blocks of a cluster sharing the tokens they multiply. Needs
// compute capability 9.0.
//
// A row's numbers depend neither on the other rows nor on their count.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/linear/linear.h"
#include "kernels/cuda/linear/skinny.h"

namespace mili::kernels::cuda {

// From so many rows on it is worth a try: its tiles are 256 tokens wide.
inline constexpr int32_t kMinGatedRows = 129;

// Weight rows of a tile in 64s.
bool IsGatedTile(int32_t groups);

// Which share of its tiles' tokens exist.
float GatedTilesFilled(int32_t num_rows);

// Whether GatedLinear runs this call: silu_mul, no fp8, no norm.
bool GatedTakes(const LinearParams& params);

// Once a device, before the first call: lets the kernels use their shared memory, and loads them.
cudaError_t PrepareGated();

// As LinearContext::Linear, in tiles of `groups` x 64 weight rows (2 or 3). cudaErrorInvalidValue
// where GatedTakes or IsGatedTile says no.
cudaError_t GatedLinear(const LinearParams& params, int32_t groups, const SkinnyDevice& device,
                        cudaStream_t stream);

}  // namespace mili::kernels::cuda

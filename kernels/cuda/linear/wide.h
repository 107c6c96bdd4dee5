// The linear layer for 9 to some hundred rows: Hopper's warpgroup products with 64, 128 or 192
// weight rows on one side and all tokens on the other, k being shared by the blocks of a cluster
// where there are few tiles. Up to 256 rows the weights are read once. Needs compute
// capability 9.0.
//
// No atomics, no workspace. A row's numbers do not depend on the other rows, but on the tile and
// the number of splits, which the row count may choose.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "kernels/cuda/linear/linear.h"
#include "kernels/cuda/linear/skinny.h"

namespace mili::kernels::cuda {

// Up to this many rows it reads the weights once, and is worth a try.
inline constexpr int32_t kMaxWideRows = 256;

// How a product is cut: weight rows of a tile in 64s (1, 2, up to 128 rows 3) and blocks of a
// cluster that share its k (1, 2, 4, 8).
struct WideCut {
  int32_t groups = 1;
  int32_t splits = 1;
};

bool IsWideCut(const WideCut& cut, int32_t num_rows);

// Whether WideLinear runs this call: fp8 weights need fp8 rows, a norm is not done here.
bool WideTakes(const LinearParams& params);

// The cuts worth timing for this call, the one that is probably best first.
std::vector<WideCut> WideCuts(const LinearParams& params, const SkinnyDevice& device);

// Once a device, before the first call: lets the kernels use their shared memory, and loads them.
cudaError_t PrepareWide(const SkinnyDevice& device);

// As LinearContext::Linear. cudaErrorInvalidValue where WideTakes says no.
cudaError_t WideLinear(const LinearParams& params, const WideCut& cut, const SkinnyDevice& device,
                       cudaStream_t stream);

}  // namespace mili::kernels::cuda

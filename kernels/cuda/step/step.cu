#include <cuda_runtime.h>

#include "kernels/cuda/step/step.h"

namespace mili::kernels::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void FeedTokensKernel(FeedTokensParams p) {
  const int32_t t = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (t >= p.num_tokens) return;
  const int32_t slot = p.fed_slots[t];
  if (slot >= 0) p.token_ids[t] = p.last_tokens[slot];
}

__global__ void StoreTokensKernel(StoreTokensParams p) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= p.num_rows) return;
  const int32_t slot = p.slots[i];
  if (slot >= 0 && p.sampled[i] >= 0) p.last_tokens[slot] = p.sampled[i];
}

// One block a row.
__global__ void GatherRowsKernel(GatherRowsParams p) {
  const int32_t from = p.row_idxs[blockIdx.x];
  const int32_t words = p.row_bytes / 16;
  const uint4* in = static_cast<const uint4*>(p.in) + static_cast<int64_t>(from) * words;
  uint4* out = static_cast<uint4*>(p.out) + static_cast<int64_t>(blockIdx.x) * words;
  for (int32_t i = threadIdx.x; i < words; i += kThreads) {
    out[i] = from >= 0 ? in[i] : uint4{0, 0, 0, 0};
  }
}

unsigned BlocksFor(int32_t count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t FeedTokens(const FeedTokensParams& params, cudaStream_t stream) {
  if (params.num_tokens <= 0) return cudaErrorInvalidValue;
  FeedTokensKernel<<<BlocksFor(params.num_tokens), kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t StoreTokens(const StoreTokensParams& params, cudaStream_t stream) {
  if (params.num_rows <= 0) return cudaErrorInvalidValue;
  StoreTokensKernel<<<BlocksFor(params.num_rows), kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t GatherRows(const GatherRowsParams& params, cudaStream_t stream) {
  if (params.num_rows <= 0 || params.row_bytes <= 0 || params.row_bytes % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  GatherRowsKernel<<<static_cast<unsigned>(params.num_rows), kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace mili::kernels::cuda

#include <cuda_runtime.h>

#include "kernels/cuda/step/step.h"

namespace mili::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Blocks y < num_segments share a segment, the next row of blocks the page table, the last one the
// records.
__global__ void LayOutStepKernel(LayOutStepParams p) {
  const int32_t part = static_cast<int32_t>(blockIdx.y);
  const int32_t first = static_cast<int32_t>(blockIdx.x * kThreads + threadIdx.x);
  const int32_t stride = static_cast<int32_t>(gridDim.x * kThreads);
  if (part < p.num_segments) {
    const StepSegment segment = p.segments[part];
    for (int32_t i = first; i < segment.padded_count; i += stride) {
      segment.to[i] = i < segment.count ? segment.from[i] : segment.pad;
    }
  } else if (part == p.num_segments) {
    for (int32_t s = static_cast<int32_t>(blockIdx.x); s < p.num_seqs;
         s += static_cast<int32_t>(gridDim.x)) {
      const int32_t begin = p.page_offsets[s];
      const int32_t count = p.page_offsets[s + 1] - begin;
      int32_t* row = p.page_table + static_cast<int64_t>(s) * p.page_table_stride;
      for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += kThreads) {
        row[i] = p.pages[begin + i];
      }
    }
  } else {
    for (int32_t i = first; i < p.num_records * p.record_words; i += stride) {
      const int32_t record = p.record_idxs[i / p.record_words];
      p.records[static_cast<int64_t>(record) * p.record_words + i % p.record_words] =
          p.record_from[i];
    }
  }
}

__global__ void RopeTableKernel(RopeTableParams p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(p.num_positions) * p.num_pairs) return;
  const float angle = static_cast<float>(i / p.num_pairs) * p.inv_freq[i % p.num_pairs];
  p.cos[i] = cosf(angle);
  p.sin[i] = sinf(angle);
}

}  // namespace

cudaError_t LayOutStep(const LayOutStepParams& params, cudaStream_t stream) {
  if (params.num_segments < 0 || params.num_segments > LayOutStepParams::kMaxSegments) {
    return cudaErrorInvalidValue;
  }
  constexpr unsigned kBlocksAPart = 16;
  const dim3 grid(kBlocksAPart, static_cast<unsigned>(params.num_segments) + 2);
  LayOutStepKernel<<<grid, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

cudaError_t RopeTable(const RopeTableParams& params, cudaStream_t stream) {
  const int64_t count = static_cast<int64_t>(params.num_positions) * params.num_pairs;
  if (count <= 0) return cudaErrorInvalidValue;
  RopeTableKernel<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0,
                    stream>>>(params);
  return cudaGetLastError();
}

}  // namespace mili::kernels::cuda

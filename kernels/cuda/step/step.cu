#include <cuda_runtime.h>

#include "kernels/cuda/step/step.h"

namespace mili::kernels::cuda {
namespace {

constexpr int kThreads = 256;

constexpr int32_t kBlocksAPart = 16;

// kBlocksAPart blocks share a segment, in order, as many the records; then each sequence has one.
__global__ void LayOutStepKernel(LayOutStepParams p) {
  const auto part = static_cast<int32_t>(blockIdx.x) / kBlocksAPart;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t first = static_cast<int32_t>(blockIdx.x) % kBlocksAPart * kThreads + thread;
  constexpr int32_t kStride = kBlocksAPart * kThreads;
  if (part < p.num_segments) {
    const StepSegment segment = p.segments[part];
    for (int32_t i = first; i < segment.padded_count; i += kStride) {
      segment.to[i] = i < segment.count ? segment.from[i] : segment.pad;
    }
  } else if (part == p.num_segments) {
    for (int32_t i = first; i < p.num_records * p.record_words; i += kStride) {
      const int32_t record = p.record_idxs[i / p.record_words];
      p.records[static_cast<int64_t>(record) * p.record_words + i % p.record_words] =
          p.record_from[i];
    }
  } else {
    const int32_t s = static_cast<int32_t>(blockIdx.x) - kBlocksAPart * (p.num_segments + 1);
    const int32_t begin = p.page_offsets[s];
    const int32_t count = p.page_offsets[s + 1] - begin;
    int32_t* row = p.page_table + static_cast<int64_t>(s) * p.page_table_stride;
    for (int32_t i = thread; i < count; i += kThreads) row[i] = p.pages[begin + i];
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
  const int32_t num_blocks = kBlocksAPart * (params.num_segments + 1) + params.num_seqs;
  LayOutStepKernel<<<static_cast<unsigned>(num_blocks), kThreads, 0, stream>>>(params);
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

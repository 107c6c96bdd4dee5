// What comes before the forward pass on the device: one packed copy of a step from the host is laid
// out into the fixed arrays that kernels read, so that a captured graph finds each step at the same
// addresses. Also the table of rotary angles. No allocation, no synchronisation.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace mili::kernels::cuda {

// to[i] = from[i] for i < count, pad for count <= i < padded_count. Four bytes an element.
struct StepSegment {
  const int32_t* from = nullptr;
  int32_t* to = nullptr;
  int32_t count = 0;
  int32_t padded_count = 0;
  int32_t pad = 0;
};

struct LayOutStepParams {
  static constexpr int kMaxSegments = 16;
  StepSegment segments[kMaxSegments];
  int32_t num_segments = 0;

  // Row s of the page table becomes pages[page_offsets[s]] to pages[page_offsets[s + 1] - 1]; what
  // lies behind in the row stays as it is.
  const int32_t* page_offsets = nullptr;  // [num_seqs + 1]
  const int32_t* pages = nullptr;
  int32_t* page_table = nullptr;  // [num_seqs, page_table_stride]
  int32_t page_table_stride = 0;
  int32_t num_seqs = 0;

  // records[record_idxs[i]] = record_from[i], each record_words long: the slots that get a new
  // sequence.
  const int32_t* record_idxs = nullptr;  // [num_records]
  const int32_t* record_from = nullptr;  // [num_records, record_words]
  int32_t* records = nullptr;
  int32_t num_records = 0;
  int32_t record_words = 0;
};
cudaError_t LayOutStep(const LayOutStepParams& params, cudaStream_t stream);

// cos and sin of position * inv_freq[i], the product taken in fp32 as transformers does.
struct RopeTableParams {
  const float* inv_freq = nullptr;  // [num_pairs]
  int32_t num_positions = 0;
  int32_t num_pairs = 0;  // head_dim / 2
  float* cos = nullptr;   // [num_positions, num_pairs]
  float* sin = nullptr;   // as cos
};
cudaError_t RopeTable(const RopeTableParams& params, cudaStream_t stream);

}  // namespace mili::kernels::cuda

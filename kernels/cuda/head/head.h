// Logits and the greedy choice in one kernel, for up to 256 rows: the product with the output
// matrix keeps of each row the best token, and writes the logits of those rows only whose sampling
// asks for more than that. Persistent, in tiles of 192 tokens of the vocabulary by 64, 128 or 256
// rows. Needs compute capability 9.0.
//
// Graph-capturable: no allocation, no synchronisation. A row's logits depend neither on the other
// rows nor, but for the tile, on their count.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/base/dtype.h"
#include "kernels/cuda/sample/sample.h"

namespace mili::kernels::cuda {

// Up to this many rows the matrix is read once.
inline constexpr int32_t kMaxHeadRows = 256;

struct HeadParams {
  DType dtype = DType::kBF16;           // kBF16 or kF16: x and w
  const void* x = nullptr;              // [num_rows, k], 16-aligned
  int64_t x_stride = 0;                 // in elements, a multiple of 8, at least k
  const void* w = nullptr;              // [vocab_size, k], contiguous, 16-aligned
  int32_t num_rows = 0;                 // at most kMaxHeadRows
  int32_t vocab_size = 0;               // as HasHead says
  int32_t num_valid_tokens = 0;         // as in SampleParams
  int32_t k = 0;                        // as HasHead says
  const int32_t* row_slots = nullptr;   // as in SampleParams: tells what a row's sampling asks for
  const SlotSampling* slots = nullptr;  // likewise
  float* logits = nullptr;    // [num_rows, vocab_size], 16-aligned: rows that are not plain
                              // greedy (sample/best_token.cuh); others stay as they are
  int64_t logits_stride = 0;  // in elements, a multiple of 2
  uint64_t* best = nullptr;   // [num_rows, HeadParts]: for Sample
  bool pdl = false;           // see kernels/cuda/common/launch.h
};

// Whether there is a kernel for such a matrix: vocab_size a multiple of 16, up to kMaxSampleVocab;
// k a multiple of 8 from 64 on.
bool HasHead(int32_t vocab_size, int32_t k);

// How many parts of the vocabulary `best` is of, on a device with so many multiprocessors.
int32_t HeadParts(int32_t num_sms, int32_t vocab_size);

// Once a device of compute capability 9.0, before the first call.
cudaError_t PrepareHead();

// cudaErrorInvalidValue for a shape not allowed above.
cudaError_t Head(const HeadParams& params, int32_t num_sms, cudaStream_t stream);

}  // namespace mili::kernels::cuda

// The ops of the forward pass: each checks its shapes and calls the kernel of the chosen table. The
// one place that knows which device computes. A wrong call is our bug, told as INTERNAL naming op,
// shape and dtype; nothing is computed then. Called on the stream's executor thread only.
#pragma once

#include <absl/status/status.h>

#include "kernels/params.h"

namespace mili::worker {

// What an op computes on. The table and the pool outlive it.
struct Compute {
  const kernels::CpuKernels* kernels = nullptr;
  kernels::ParallelFor* pool = nullptr;
};

absl::Status Embed(const Compute& compute, const kernels::EmbedParams& params);
absl::Status AddRmsNorm(const Compute& compute, const kernels::AddRmsNormParams& params);
absl::Status Linear(const Compute& compute, const kernels::LinearParams& params);
absl::Status QkvPrepare(const Compute& compute, const kernels::QkvPrepareParams& params);
absl::Status PagedAttention(const Compute& compute, const kernels::PagedAttentionParams& params);
absl::Status SiluMul(const Compute& compute, const kernels::SiluMulParams& params);
// One row, on the calling thread; rows may run side by side.
absl::Status Sample(const Compute& compute, const kernels::SampleParams& params,
                    kernels::SampleOutcome* outcome);
absl::Status Score(const Compute& compute, const kernels::ScoreParams& params,
                   kernels::SampleOutcome* outcome);

// Fills cos and sin of position * inv_freq, [num_tokens, head_dim / 2] each, one row a token. The
// product is taken in fp32, as transformers does.
void RopeTable(const float* inv_freq, const uint32_t* positions, int64_t num_tokens,
               int64_t num_pairs, float* cos, float* sin, kernels::ParallelFor& pool);

}  // namespace mili::worker

// Backend: what executes a StepBatch. ModelBackend computes; tests put a fake in its place. Called
// on the stream's executor thread only, one step at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <absl/status/status.h>

#include "common/core/sampling_params.h"
#include "common/core/step_plan.h"
#include "kernels/params.h"
#include "worker/model/step_batch.h"

namespace mili::worker {

// One row to sample, with what its slot remembers. Pointers live for the call.
struct SampleTask {
  uint32_t token_idx = 0;  // of the batch, whose logits decide
  uint32_t position = 0;   // of the token to sample
  const SamplingParams* params = nullptr;
  std::span<const kernels::TokenCount> counts;  // empty unless a penalty is set
  std::span<const kernels::TokenBias> biases;   // params->logit_bias
  bool ban = false;                             // params->banned_token_ids cannot be sampled
};

struct TokenOutcome {
  absl::Status status;  // not OK: this row alone failed
  SampledToken token;
};

class Backend {
 public:
  virtual ~Backend() = default;
  // Computes the batch, writing its KV. `sampled` has one place for each of `samples`, `scored` one
  // for each of batch.scores. Not OK: the whole step failed, by a bug of ours.
  virtual absl::Status Execute(const StepBatch& batch, std::span<const SampleTask> samples,
                               std::span<TokenOutcome> sampled, std::span<TokenOutcome> scored) = 0;
};

}  // namespace mili::worker

// SlotMemory: what a slot remembers between steps on the device's side of the stream: the token it
// sampled last, sampling parameters, penalty counts. All of it can be rebuilt from SeqStart.
// Executor thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <absl/status/status.h>

#include "common/core/step_plan.h"
#include "worker/model/backend.h"
#include "worker/model/step_batch.h"

namespace mili::worker {

// What a slot's sampling starts from; counts only where a penalty reads them.
SlotReset MakeReset(const SeqStart& start);

class SlotMemory {
 public:
  explicit SlotMemory(uint32_t num_slots) : slots_(num_slots) {}

  void Reset(SlotReset reset);
  TokenId last_token(SlotId slot) const { return slots_[slot.value].last_token; }
  // How to sample the row. Valid until the slot changes.
  SampleTask TaskOf(const SampleRow& row, SlotId slot) const;
  // The row's outcome: remembers the token, or that the sequence has failed for good.
  void Record(SlotId slot, const TokenOutcome& outcome);
  // Not OK once a row of this sequence has failed: nothing after it means anything.
  const absl::Status& failure(SlotId slot) const { return slots_[slot.value].failure; }

 private:
  struct Slot {
    SamplingParams sampling;
    std::vector<kernels::TokenBias> biases;
    std::vector<kernels::TokenCount> counts;  // by token id
    uint32_t num_output_tokens = 0;
    TokenId last_token = 0;
    absl::Status failure;
  };
  std::vector<Slot> slots_;
};

}  // namespace mili::worker

// SlotTable: the sequences in the worker's slots as the engine thread knows them, and the judge of
// plans: what breaks the contract of worker.proto is told by slot and rule. Turns a sound plan into
// a StepBatch. Engine thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <absl/status/status.h>

#include "common/core/memory_plan.h"
#include "common/core/step_plan.h"
#include "worker/model/step_batch.h"

namespace mili::worker {

class SlotTable {
 public:
  struct Limits {
    uint32_t num_slots = 0;
    uint32_t num_pages = 0;
    uint32_t page_size_tokens = 0;
    uint32_t max_num_batched_tokens = 0;
    uint32_t max_model_len = 0;
    uint32_t vocab_size = 0;
    uint32_t max_pages_per_seq() const {
      return (max_model_len + page_size_tokens - 1) / page_size_tokens;
    }
  };
  static Limits LimitsOf(const MemoryPlan& plan, uint32_t vocab_size);

  explicit SlotTable(const Limits& limits);

  // Empties every slot; the next plan is step 1.
  void Clear();

  // Applies release, start, step and fills `batch`. INVALID_ARGUMENT naming slot and rule: the plan
  // may be half applied then, so Clear must come before the next one.
  absl::Status Apply(StepPlan plan, StepBatch* batch);

 private:
  struct Slot {
    bool is_occupied = false;
    bool is_in_step = false;     // has a row in the plan at hand
    std::vector<TokenId> known;  // of SeqStart; what is sampled afterwards stays on the device
    std::vector<PageId> pages;
    uint32_t num_prompt_tokens = 0;
    uint32_t num_computed = 0;
    uint32_t length = 0;  // known and sampled tokens
    std::optional<uint32_t> num_prompt_logprobs;
  };

  absl::Status Release(SlotId slot);
  absl::Status Start(SeqStart start, StepBatch* batch);
  absl::Status Step(const SeqStep& step, StepBatch* batch);
  absl::Status CheckStart(const SeqStart& start) const;
  absl::Status CheckStep(const SeqStep& step, const Slot& slot, uint32_t num_batched) const;
  absl::Status CheckPages(SlotId slot, const std::vector<PageId>& pages, size_t num_held) const;
  void AddRow(const SeqStep& step, Slot& slot, StepBatch* batch) const;

  const Limits limits_;
  std::vector<Slot> slots_;
  StepId last_step_;
};

}  // namespace mili::worker

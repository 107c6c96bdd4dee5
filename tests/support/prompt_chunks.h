// The plans that compute one prompt in slot 0, chunk by chunk. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/core/step_plan.h"
#include "worker/engine/slot_table.h"

namespace mili::worker {

// The step for tokens [first, first + chunk) of `prompt`, cut at its end; the first one starts the
// sequence, on all pages that a sequence may have.
inline StepPlan PlanOfChunk(const std::vector<TokenId>& prompt, uint32_t first, uint32_t chunk,
                            const SlotTable::Limits& limits) {
  const uint32_t size = static_cast<uint32_t>(prompt.size());
  const uint32_t count = std::min(chunk, size - first);
  StepPlan plan;
  plan.step_id = StepId(first / chunk + 1);
  if (first == 0) {
    SeqStart start{SlotId(0), prompt, size, 0, {}, {}};
    for (uint32_t i = 0; i < limits.max_pages_per_seq(); ++i) start.pages.push_back(PageId(i));
    plan.start = {start};
  }
  plan.step = {{SlotId(0), count, {}, TokenSource::kKnown, first + count == size}};
  return plan;
}

}  // namespace mili::worker

#include "worker/engine/slot_memory.h"

#include <algorithm>
#include <utility>

namespace mili::worker {
namespace {

using kernels::TokenCount;

bool HasPenalty(const SamplingParams& sampling) {
  return sampling.presence_penalty != 0 || sampling.frequency_penalty != 0 ||
         sampling.repetition_penalty != 1;
}

bool ById(const TokenCount& a, const TokenCount& b) { return a.token_id < b.token_id; }

}  // namespace

SlotReset MakeReset(const SeqStart& start) {
  SlotReset reset;
  reset.slot = start.slot;
  reset.sampling = start.sampling;
  reset.num_prompt_tokens = start.num_prompt_tokens;
  reset.num_output_tokens = static_cast<uint32_t>(start.token_ids.size()) - start.num_prompt_tokens;
  if (!HasPenalty(start.sampling)) return reset;
  std::vector<TokenCount>& counts = reset.counts;
  counts.reserve(start.token_ids.size());
  for (size_t i = 0; i < start.token_ids.size(); ++i) {
    counts.push_back({start.token_ids[i], i >= start.num_prompt_tokens ? 1u : 0u});
  }
  std::sort(counts.begin(), counts.end(), ById);
  size_t kept = 0;  // merge equal ids
  for (size_t i = 1; i < counts.size(); ++i) {
    if (counts[i].token_id == counts[kept].token_id) {
      counts[kept].num_in_output += counts[i].num_in_output;
    } else {
      counts[++kept] = counts[i];
    }
  }
  counts.resize(kept + 1);
  return reset;
}

void SlotMemory::Reset(SlotReset reset) {
  Slot& slot = slots_[reset.slot.value];
  slot.sampling = std::move(reset.sampling);
  slot.biases.clear();
  for (const LogitBias& bias : slot.sampling.logit_bias) {
    slot.biases.push_back({bias.token_id, bias.bias});
  }
  slot.counts = std::move(reset.counts);
  slot.num_output_tokens = reset.num_output_tokens;
  slot.last_token = 0;
  slot.failure = absl::OkStatus();
}

SampleTask SlotMemory::TaskOf(const SampleRow& row, SlotId id) const {
  const Slot& slot = slots_[id.value];
  return {.token_idx = row.token_idx,
          .position = row.position,
          .params = &slot.sampling,
          .counts = slot.counts,
          .biases = slot.biases,
          .ban = slot.num_output_tokens < slot.sampling.min_tokens};
}

void SlotMemory::Record(SlotId id, const TokenOutcome& outcome) {
  Slot& slot = slots_[id.value];
  if (!outcome.status.ok()) {
    slot.failure = outcome.status;
    slot.last_token = 0;  // any token will do: the rows to come fail with the same cause
    return;
  }
  slot.last_token = outcome.token.id;
  ++slot.num_output_tokens;
  if (!HasPenalty(slot.sampling)) return;
  const TokenCount count{outcome.token.id, 1};
  const auto place = std::lower_bound(slot.counts.begin(), slot.counts.end(), count, ById);
  if (place != slot.counts.end() && place->token_id == count.token_id) {
    ++place->num_in_output;
  } else {
    slot.counts.insert(place, count);
  }
}

}  // namespace mili::worker

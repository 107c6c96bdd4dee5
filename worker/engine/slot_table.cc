#include "worker/engine/slot_table.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/status_macros.h"
#include "worker/engine/sampling_check.h"
#include "worker/engine/slot_memory.h"

namespace mili::worker {
namespace {

template <typename... Facts>
absl::Status Broken(SlotId slot, const Facts&... facts) {
  return absl::InvalidArgumentError(absl::StrCat("plan: slot ", slot.value, ": ", facts...));
}

}  // namespace

SlotTable::Limits SlotTable::LimitsOf(const MemoryPlan& plan, uint32_t vocab_size) {
  return {plan.max_num_seqs,           plan.num_pages,     plan.kv.page_size_tokens,
          plan.max_num_batched_tokens, plan.max_model_len, vocab_size};
}

SlotTable::SlotTable(const Limits& limits) : limits_(limits), slots_(limits.num_slots) {
  for (Slot& slot : slots_) slot.pages.reserve(limits.max_pages_per_seq());
}

void SlotTable::Clear() {
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].is_occupied) Release(SlotId(i)).IgnoreError();
  }
  last_step_ = StepId();
}

absl::Status SlotTable::Apply(StepPlan plan, StepBatch* batch) {
  batch->Clear();
  batch->epoch = plan.epoch;
  batch->step_id = plan.step_id;
  if (plan.step_id.value != last_step_.value + 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan: step_id is ", plan.step_id.value, "; expected ", last_step_.value + 1));
  }
  last_step_ = plan.step_id;
  for (const SlotId slot : plan.release) MILI_RETURN_IF_ERROR(Release(slot));
  for (SeqStart& start : plan.start) MILI_RETURN_IF_ERROR(Start(std::move(start), batch));
  absl::Status status;
  for (const SeqStep& step : plan.step) {
    status = Step(step, batch);
    if (!status.ok()) break;
  }
  for (const SlotId slot : batch->slots) slots_[slot.value].is_in_step = false;
  return status;
}

absl::Status SlotTable::Release(SlotId id) {
  if (id.value >= slots_.size()) {
    return Broken(id, "released, but slots are 0 to ", slots_.size() - 1);
  }
  Slot& slot = slots_[id.value];
  if (!slot.is_occupied) return Broken(id, "released, but it is empty");
  slot.is_occupied = false;
  slot.pages.clear();
  slot.known = {};  // came with the plan, goes with the sequence
  return absl::OkStatus();
}

absl::Status SlotTable::CheckPages(SlotId slot, const std::vector<PageId>& pages,
                                   size_t num_held) const {
  if (pages.size() + num_held > limits_.max_pages_per_seq()) {
    return Broken(slot, pages.size() + num_held, " pages; a context of ", limits_.max_model_len,
                  " tokens has at most ", limits_.max_pages_per_seq());
  }
  for (const PageId page : pages) {
    if (page.value >= limits_.num_pages) {
      return Broken(slot, "page ", page.value, "; pages are 0 to ", limits_.num_pages - 1);
    }
  }
  return absl::OkStatus();
}

absl::Status SlotTable::CheckStart(const SeqStart& start) const {
  const size_t num_tokens = start.token_ids.size();
  if (start.slot.value >= slots_.size()) {
    return Broken(start.slot, "started, but slots are 0 to ", slots_.size() - 1);
  }
  if (slots_[start.slot.value].is_occupied) {
    return Broken(start.slot, "started, but it holds a sequence");
  }
  if (num_tokens == 0) return Broken(start.slot, "started without tokens");
  if (num_tokens > limits_.max_model_len) {
    return Broken(start.slot, num_tokens, " tokens exceed the context of ", limits_.max_model_len);
  }
  if (start.num_prompt_tokens == 0 || start.num_prompt_tokens > num_tokens) {
    return Broken(start.slot, "num_prompt_tokens is ", start.num_prompt_tokens, "; expected 1 to ",
                  num_tokens);
  }
  if (start.num_cached_tokens >= num_tokens) {
    return Broken(start.slot, "num_cached_tokens is ", start.num_cached_tokens,
                  "; expected less than the ", num_tokens, " tokens");
  }
  MILI_RETURN_IF_ERROR(CheckPages(start.slot, start.pages, 0));
  if (start.num_cached_tokens > start.pages.size() * limits_.page_size_tokens) {
    return Broken(start.slot, start.num_cached_tokens, " cached tokens do not lie in ",
                  start.pages.size(), " pages");
  }
  for (const TokenId id : start.token_ids) {
    if (id >= limits_.vocab_size) {
      return Broken(start.slot, "token id ", id, "; ids are 0 to ", limits_.vocab_size - 1);
    }
  }
  if (absl::Status status = CheckSampling(start.sampling, limits_.vocab_size); !status.ok()) {
    return Broken(start.slot, status.message());
  }
  return absl::OkStatus();
}

absl::Status SlotTable::Start(SeqStart start, StepBatch* batch) {
  MILI_RETURN_IF_ERROR(CheckStart(start));
  Slot& slot = slots_[start.slot.value];
  slot.is_occupied = true;
  slot.num_prompt_tokens = start.num_prompt_tokens;
  slot.num_computed = start.num_cached_tokens;
  slot.length = static_cast<uint32_t>(start.token_ids.size());
  slot.num_prompt_logprobs = start.sampling.num_prompt_logprobs;
  slot.pages.assign(start.pages.begin(), start.pages.end());
  batch->resets.push_back(MakeReset(start));
  slot.known = std::move(start.token_ids);
  return absl::OkStatus();
}

absl::Status SlotTable::CheckStep(const SeqStep& step, const Slot& slot,
                                  uint32_t num_batched) const {
  MILI_RETURN_IF_ERROR(CheckPages(step.slot, step.new_pages, slot.pages.size()));
  if (step.num_tokens == 0) return Broken(step.slot, "num_tokens is 0; expected at least 1");
  if (step.num_tokens > limits_.max_num_batched_tokens - num_batched) {
    return Broken(step.slot, num_batched, " and ", step.num_tokens, " tokens exceed the ",
                  limits_.max_num_batched_tokens, " of a step");
  }
  if (step.source == TokenSource::kLastSampled) {
    const bool has_fresh = slot.length > slot.known.size() && slot.num_computed + 1 == slot.length;
    if (step.num_tokens != 1) {
      return Broken(step.slot, "num_tokens is ", step.num_tokens,
                    "; expected 1 with the last sampled token");
    }
    if (!has_fresh) {
      return Broken(step.slot, "has no sampled token that was not computed yet");
    }
  } else if (uint64_t{slot.num_computed} + step.num_tokens > slot.known.size()) {
    return Broken(step.slot, step.num_tokens, " known tokens wanted, ",
                  slot.known.size() - std::min<size_t>(slot.num_computed, slot.known.size()),
                  " left");
  }
  const uint32_t context_len = slot.num_computed + step.num_tokens;
  if (context_len > limits_.max_model_len) {
    return Broken(step.slot, context_len, " tokens exceed the context of ", limits_.max_model_len);
  }
  const size_t num_pages = slot.pages.size() + step.new_pages.size();
  if (context_len > num_pages * limits_.page_size_tokens) {
    return Broken(step.slot, context_len, " tokens do not lie in ", num_pages, " pages");
  }
  if (step.sample != (context_len == slot.length)) {
    return Broken(step.slot, step.sample ? "samples before its last known token"
                                         : "does not sample after its last known token");
  }
  return absl::OkStatus();
}

absl::Status SlotTable::Step(const SeqStep& step, StepBatch* batch) {
  if (step.slot.value >= slots_.size()) {
    return Broken(step.slot, "stepped, but slots are 0 to ", slots_.size() - 1);
  }
  Slot& slot = slots_[step.slot.value];
  if (!slot.is_occupied) return Broken(step.slot, "stepped, but it is empty");
  if (slot.is_in_step) return Broken(step.slot, "stepped twice in one plan");
  MILI_RETURN_IF_ERROR(CheckStep(step, slot, batch->num_tokens()));
  AddRow(step, slot, batch);
  return absl::OkStatus();
}

void SlotTable::AddRow(const SeqStep& step, Slot& slot, StepBatch* batch) const {
  slot.is_in_step = true;
  slot.pages.insert(slot.pages.end(), step.new_pages.begin(), step.new_pages.end());
  const uint32_t row_idx = batch->num_rows();
  const uint32_t first_token = batch->num_tokens();
  if (step.source == TokenSource::kLastSampled) batch->fed_rows.push_back(row_idx);
  for (uint32_t i = 0; i < step.num_tokens; ++i) {
    const uint32_t position = slot.num_computed + i;
    const uint64_t page = slot.pages[position / limits_.page_size_tokens].value;
    batch->token_ids.push_back(step.source == TokenSource::kKnown ? slot.known[position] : 0);
    batch->positions.push_back(position);
    batch->slot_map.push_back(static_cast<int64_t>(page * limits_.page_size_tokens +
                                                   position % limits_.page_size_tokens));
    if (slot.num_prompt_logprobs && position + 1 < slot.num_prompt_tokens) {
      batch->scores.push_back(
          {row_idx, first_token + i, slot.known[position + 1], *slot.num_prompt_logprobs});
    }
  }
  slot.num_computed += step.num_tokens;
  if (step.sample) {
    batch->samples.push_back({row_idx, first_token + step.num_tokens - 1, slot.length});
    ++slot.length;
  }
  batch->slots.push_back(step.slot);
  batch->cu_seqlens.push_back(batch->num_tokens());
  batch->context_lens.push_back(slot.num_computed);
  for (const PageId page : slot.pages) batch->page_table.push_back(page.value);
  batch->page_table.resize(uint64_t{batch->num_rows()} * batch->page_table_stride, 0);
}

}  // namespace mili::worker

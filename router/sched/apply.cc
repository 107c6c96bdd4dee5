#include "router/sched/apply.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <absl/strings/str_cat.h>

#include "router/sched/lifecycle.h"

namespace mili::router {
namespace {

absl::Status BrokenRule(const StepResult& result, SlotId slot, absl::string_view rule) {
  return absl::InternalError(absl::StrCat("worker broke the contract: step ", result.step_id.value,
                                          ", slot ", slot.value, ": ", rule));
}

absl::Status CheckTokens(const SchedulerState& state, const StepResult& result, SlotId slot,
                         const std::vector<SampledToken>& tokens) {
  for (const SampledToken& token : tokens) {
    if (token.id >= state.capacity.vocab_size) {
      return BrokenRule(result, slot,
                        absl::StrCat("token id ", token.id, " is outside the vocabulary of ",
                                     state.capacity.vocab_size));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRow(const SchedulerState& state, const StepResult& result,
                      const InFlightRow& planned, const RowResult& row) {
  if (!row.status.ok()) {
    if (row.tokens.empty()) return absl::OkStatus();
    return BrokenRule(result, row.slot, "a failed row has no tokens");
  }
  if (row.tokens.size() != (planned.samples ? 1 : 0)) {
    return BrokenRule(
        result, row.slot,
        absl::StrCat("expected ", planned.samples ? 1 : 0, " tokens, got ", row.tokens.size()));
  }
  if (row.prompt_logprobs.size() != planned.num_prompt_logprobs) {
    return BrokenRule(result, row.slot,
                      absl::StrCat("expected ", planned.num_prompt_logprobs,
                                   " prompt logprobs, got ", row.prompt_logprobs.size()));
  }
  if (absl::Status s = CheckTokens(state, result, row.slot, row.tokens); !s.ok()) return s;
  return CheckTokens(state, result, row.slot, row.prompt_logprobs);
}

bool IsExpected(const InFlightRow& planned) {
  return planned.samples || planned.num_prompt_logprobs > 0;
}

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Whether the token just appended ends the choice, and how.
std::optional<Finish> FinishAfter(const Sequence& sequence, TokenId token) {
  const Request& request = *sequence.record->request;
  const size_t num_before = sequence.output.size() - 1;
  if (num_before >= request.sampling.min_tokens && Contains(request.stop_token_ids, token)) {
    return Ended(FinishReason::kStop, token);
  }
  if (sequence.output.size() >= request.max_tokens) return Ended(FinishReason::kLength);
  return std::nullopt;
}

// Those of a row's prompt logprobs that were not emitted before a restart.
void TakePromptLogprobs(const InFlightRow& planned, RowResult& row, RequestRecord& record,
                        TokenEvent& event) {
  const uint32_t end = planned.start + planned.num_prompt_logprobs;
  if (end <= record.num_prompt_logprobs_emitted) return;
  const uint32_t num_known = record.num_prompt_logprobs_emitted - planned.start;
  event.prompt_logprobs.assign(std::make_move_iterator(row.prompt_logprobs.begin() + num_known),
                               std::make_move_iterator(row.prompt_logprobs.end()));
  record.num_prompt_logprobs_emitted = end;
}

void ApplyRow(SchedulerState& state, const InFlightRow& planned, RowResult* row, absl::Time now) {
  Sequence& sequence = *planned.sequence;
  RequestRecord& record = *sequence.record;
  --sequence.num_rows_in_flight;
  if (planned.samples) --sequence.num_samples_in_flight;
  if (row != nullptr && !row->status.ok()) {
    EndRequest(state, record, Failed(row->status));
    return;
  }
  TokenEvent event;
  event.request = record.request->key;
  event.choice_idx = sequence.choice_idx;
  if (row != nullptr && planned.num_prompt_logprobs > 0) {
    TakePromptLogprobs(planned, *row, record, event);
  }
  if (planned.samples) {
    if (!record.first_token.has_value()) record.first_token = now;
    sequence.output.push_back(row->tokens[0].id);
    ++record.num_output_tokens;
    AddNews(state, record);
    event.finish = FinishAfter(sequence, row->tokens[0].id);
    event.tokens = std::move(row->tokens);
  } else if (IsScoring(sequence) &&
             record.num_prompt_logprobs_emitted == NumTokensToPrefill(sequence)) {
    event.finish = Ended(FinishReason::kLength);
  }
  if (event.finish.has_value()) {
    EndSequence(state, sequence, std::move(event));
    return;
  }
  if (!event.tokens.empty() || !event.prompt_logprobs.empty()) {
    state.events.push_back(std::move(event));
  }
  if (sequence.state == Sequence::State::kDraining && sequence.num_rows_in_flight == 0) {
    Requeue(state, sequence);
  }
}

}  // namespace

absl::Status CheckResult(const SchedulerState& state, const StepResult& result) {
  if (state.in_flight.empty() || state.in_flight.front().id != result.step_id) {
    return absl::InternalError(absl::StrCat(
        "worker broke the contract: answered step ", result.step_id.value, ", expected ",
        state.in_flight.empty() ? "none" : absl::StrCat(state.in_flight.front().id.value)));
  }
  auto row = result.rows.begin();
  for (const InFlightRow& planned : state.in_flight.front().rows) {
    if (row != result.rows.end() && row->slot == planned.slot) {
      if (absl::Status s = CheckRow(state, result, planned, *row); !s.ok()) return s;
      ++row;
    } else if (IsExpected(planned)) {
      return BrokenRule(result, planned.slot, "its row has no result");
    }
  }
  if (row != result.rows.end()) {
    return BrokenRule(result, row->slot, "a result without a row, or out of the plan's order");
  }
  return absl::OkStatus();
}

void ApplyResult(SchedulerState& state, StepResult result, absl::Time now) {
  // The step stays in state.in_flight while its rows are applied: a request that ends turns its
  // other rows, of this step too, into ghosts.
  std::vector<InFlightRow>& rows = state.in_flight.front().rows;
  size_t next = 0;
  for (InFlightRow& planned : rows) {
    RowResult* row = nullptr;
    if (next < result.rows.size() && result.rows[next].slot == planned.slot) {
      row = &result.rows[next++];
    }
    if (planned.sequence == nullptr) continue;
    const InFlightRow applied = planned;
    planned.sequence = nullptr;
    ApplyRow(state, applied, row, now);
  }
  state.in_flight.pop_front();
}

}  // namespace mili::router

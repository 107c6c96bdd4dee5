#include "router/sched/plan.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/base/check.h"
#include "router/sched/lifecycle.h"

namespace mili::router {
namespace {

// The step under construction.
struct Draft {
  StepPlan plan;
  InFlightStep step;
  uint32_t num_tokens_left = 0;
  // A running sequence found no page: the next ones that come back are its.
  bool is_short_of_pages = false;
};

// Prompt logprobs that a row brings: one for each of its tokens that has a successor in the prompt,
// as worker.proto says.
uint32_t NumPromptLogprobs(const Sequence& sequence, uint32_t start, uint32_t num_tokens) {
  const RequestRecord& record = *sequence.record;
  if (sequence.choice_idx != 0 || !record.request->sampling.num_prompt_logprobs.has_value()) {
    return 0;
  }
  const uint32_t num_scored = record.num_prompt_tokens() - 1;
  return start >= num_scored ? 0 : std::min(num_tokens, num_scored - start);
}

void AddRow(Draft& draft, Sequence& sequence, SeqStep row) {
  const uint32_t start = sequence.num_submitted_tokens;
  row.slot = sequence.slot;
  sequence.num_submitted_tokens += row.num_tokens;
  ++sequence.num_rows_in_flight;
  if (row.sample) ++sequence.num_samples_in_flight;
  draft.num_tokens_left -= row.num_tokens;
  draft.step.rows.push_back(
      {.slot = row.slot,
       .sequence = &sequence,
       .start = start,
       .num_tokens = row.num_tokens,
       .samples = row.sample,
       .num_prompt_logprobs = NumPromptLogprobs(sequence, start, row.num_tokens)});
  draft.plan.step.push_back(std::move(row));
}

// Pages that come back without anybody being preempted, once the steps in flight are answered.
uint32_t NumPagesReturning(const SchedulerState& state) {
  size_t num = 0;
  for (const InFlightStep& step : state.in_flight) num += step.retired.size();
  for (const auto& [key, sequence] : state.running) {
    if (IsFullySubmitted(*sequence)) num += sequence->pages.size();
  }
  return static_cast<uint32_t>(num);
}

// Finds `sequence` its next page, if need be at the expense of the newest of the lowest priority,
// never of the oldest of the highest. False: it sits this step out, or was preempted itself.
bool FindPage(SchedulerState& state, Sequence& sequence, uint32_t num_promised, Draft& draft) {
  while (!state.pool->TryLease(1, sequence.pages)) {
    draft.is_short_of_pages = true;
    if (NumPagesReturning(state) > num_promised) return false;
    auto victim = std::find_if(state.running.rbegin(), state.running.rend(),
                               [](const auto& entry) { return !IsFullySubmitted(*entry.second); });
    MILI_CHECK(victim != state.running.rend() && victim->second != state.running.begin()->second,
               "a sequence that runs alone finds its pages");
    Sequence* preempted = victim->second;
    Preempt(state, *preempted);
    if (preempted == &sequence) return false;
  }
  return true;
}

void PlanDecodes(SchedulerState& state, Draft& draft) {
  uint32_t num_promised = 0;  // pages on their way back to rows that sit this step out
  for (auto it = state.running.begin(); it != state.running.end() && draft.num_tokens_left > 0;) {
    Sequence& sequence = *it->second;
    if (IsPrefilling(sequence) || IsFullySubmitted(sequence)) {
      ++it;
      continue;
    }
    SeqStep row;
    row.num_tokens = 1;
    row.source = TokenSource::kLastSampled;
    row.sample = true;
    if (PagesFor(state.capacity, sequence.num_submitted_tokens + 1) > sequence.pages.size()) {
      if (!FindPage(state, sequence, num_promised, draft)) {
        if (sequence.state != Sequence::State::kRunning) break;  // it was the newest itself
        ++num_promised;
        ++it;
        continue;
      }
      row.new_pages.push_back(sequence.pages.back().page());
    }
    AddRow(draft, sequence, std::move(row));
    ++it;
  }
}

void PlanChunk(Draft& draft, Sequence& sequence) {
  const uint32_t num_left = NumTokensToPrefill(sequence) - sequence.num_submitted_tokens;
  SeqStep row;
  row.num_tokens = std::min(num_left, draft.num_tokens_left);
  row.source = TokenSource::kKnown;
  row.sample = row.num_tokens == num_left && !IsScoring(sequence);
  AddRow(draft, sequence, std::move(row));
}

void PlanChunks(SchedulerState& state, Draft& draft) {
  for (auto& [key, sequence] : state.running) {
    if (draft.num_tokens_left == 0) return;
    if (IsPrefilling(*sequence)) PlanChunk(draft, *sequence);
  }
}

// Running sequences that will want another page before they end. So many pages stay free at an
// admission, lest the newcomer be preempted within a page's worth of steps.
uint32_t NumGrowing(const SchedulerState& state) {
  return static_cast<uint32_t>(
      std::count_if(state.running.begin(), state.running.end(), [&](const auto& entry) {
        const Sequence& sequence = *entry.second;
        return sequence.pages.size() < MaxPagesOf(state.capacity, *sequence.record->request);
      }));
}

SeqStart StartOf(const Sequence& sequence) {
  const RequestRecord& record = *sequence.record;
  SeqStart start;
  start.slot = sequence.slot;
  start.token_ids.reserve(NumKnownTokens(sequence));
  start.token_ids = record.request->prompt_token_ids;
  start.token_ids.insert(start.token_ids.end(), sequence.output.begin(), sequence.output.end());
  start.num_prompt_tokens = record.num_prompt_tokens();
  for (const PageLease& lease : sequence.pages) start.pages.push_back(lease.page());
  start.sampling = record.request->sampling;
  start.sampling.choice_idx = sequence.choice_idx;
  // The prompt is scored once a request, by its first choice.
  if (sequence.choice_idx != 0) start.sampling.num_prompt_logprobs.reset();
  return start;
}

// Gives the head of the queue a slot and pages for all its known tokens, so that a prompt under way
// never waits for a page. False: not yet.
bool AdmitHead(SchedulerState& state, Draft& draft, absl::Time now) {
  Sequence& sequence = *state.waiting.begin()->second;
  sequence.num_started_tokens = NumKnownTokens(sequence);
  const uint32_t num_pages = PagesFor(state.capacity, NumTokensToPrefill(sequence));
  if (state.free_slots.empty() || state.pool->num_free() < num_pages + NumGrowing(state)) {
    return false;
  }
  MILI_CHECK(state.pool->TryLease(num_pages, sequence.pages), "the pages were counted");
  state.waiting.erase(state.waiting.begin());
  state.running.emplace(sequence.queue_key, &sequence);
  sequence.state = Sequence::State::kRunning;
  sequence.slot = state.free_slots.back();
  state.free_slots.pop_back();
  sequence.num_submitted_tokens = 0;
  RequestRecord& record = *sequence.record;
  if (!record.started.has_value()) record.started = now;
  record.slot_deadline = absl::InfiniteFuture();
  IndexDeadline(state, record);
  AddNews(state, record);
  draft.plan.start.push_back(StartOf(sequence));
  PlanChunk(draft, sequence);
  return true;
}

}  // namespace

std::optional<StepPlan> PlanStep(SchedulerState& state, absl::Time now) {
  if (!state.is_open() || state.in_flight.size() >= state.options.run_ahead_depth) {
    return std::nullopt;
  }
  Draft draft;
  draft.num_tokens_left = state.capacity.max_num_batched_tokens;
  PlanDecodes(state, draft);
  PlanChunks(state, draft);
  // Pages that come back belong to those who sit out or restart; newcomers wait behind them.
  if (!draft.is_short_of_pages && state.num_draining == 0) {
    while (!state.waiting.empty() && draft.num_tokens_left > 0 && AdmitHead(state, draft, now)) {
    }
  }
  if (draft.plan.step.empty()) return std::nullopt;
  ++state.last_step.value;
  draft.plan.epoch = state.epoch;
  draft.plan.step_id = state.last_step;
  draft.plan.release = std::exchange(state.to_release, {});
  draft.step.id = state.last_step;
  state.in_flight.push_back(std::move(draft.step));
  return std::move(draft.plan);
}

}  // namespace mili::router

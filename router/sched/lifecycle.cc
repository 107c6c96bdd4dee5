#include "router/sched/lifecycle.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/check.h"

namespace mili::router {
namespace {

// Moves the sequence's pages to the last submitted step that names them; without one they go back
// to the pool at once.
void RetirePages(SchedulerState& state, Sequence& sequence) {
  if (sequence.num_rows_in_flight > 0) {
    for (auto step = state.in_flight.rbegin(); step != state.in_flight.rend(); ++step) {
      const bool is_named =
          std::any_of(step->rows.begin(), step->rows.end(),
                      [&](const InFlightRow& row) { return row.sequence == &sequence; });
      if (!is_named) continue;
      std::move(sequence.pages.begin(), sequence.pages.end(), std::back_inserter(step->retired));
      break;
    }
  }
  sequence.pages.clear();
}

void LeaveSlot(SchedulerState& state, Sequence& sequence) {
  RetirePages(state, sequence);
  state.running.erase(sequence.queue_key);
  state.free_slots.push_back(sequence.slot);
  state.to_release.push_back(sequence.slot);
}

void TurnRowsIntoGhosts(SchedulerState& state, Sequence& sequence) {
  if (sequence.num_rows_in_flight == 0) return;
  for (InFlightStep& step : state.in_flight) {
    for (InFlightRow& row : step.rows) {
      if (row.sequence == &sequence) row.sequence = nullptr;
    }
  }
  sequence.num_rows_in_flight = 0;
  sequence.num_samples_in_flight = 0;
}

void EraseRecord(SchedulerState& state, RequestRecord& record) {
  RequestProgress progress = ProgressOf(record);
  progress.state = RequestProgress::State::kFinished;
  state.finished_news.push_back(progress);
  record.slot_deadline = absl::InfiniteFuture();
  if (record.indexed_deadline != absl::InfiniteFuture()) {
    state.deadlines.erase({record.indexed_deadline, record.request->key});
  }
  const RequestKey key = record.request->key;
  state.requests.erase(key);
}

TokenEvent FinishEvent(const Sequence& sequence, const Finish& finish) {
  TokenEvent event;
  event.request = sequence.record->request->key;
  event.choice_idx = sequence.choice_idx;
  event.finish = finish;
  return event;
}

bool NeedsComputation(const Sequence& sequence) {
  if (!IsScoring(sequence)) return true;
  return sequence.choice_idx == 0 && NumTokensToPrefill(sequence) > 0 &&
         sequence.record->request->sampling.num_prompt_logprobs.has_value();
}

}  // namespace

Finish Ended(FinishReason reason, std::optional<TokenId> matched_token_id) {
  Finish finish;
  finish.reason = reason;
  finish.matched_token_id = matched_token_id;
  return finish;
}

Finish Failed(absl::Status status) {
  Finish finish;
  finish.status = std::move(status);
  return finish;
}

RequestProgress ProgressOf(const RequestRecord& record) {
  RequestProgress progress;
  progress.key = record.request->key;
  for (const Sequence& sequence : record.choices) {
    if (sequence.state == Sequence::State::kRunning) {
      progress.state = RequestProgress::State::kRunning;
    }
  }
  if (progress.state != RequestProgress::State::kRunning && record.started.has_value()) {
    progress.state = RequestProgress::State::kRestarting;
  }
  progress.num_output_tokens = record.num_output_tokens;
  progress.num_preemptions = record.num_preemptions;
  progress.num_lost_batches = record.num_lost_batches;
  progress.started = record.started;
  progress.first_token = record.first_token;
  return progress;
}

absl::Status CheckFits(const Capacity& capacity, const Request& request) {
  const uint64_t num_prompt = request.prompt_token_ids.size();
  if (num_prompt + request.max_tokens > capacity.max_model_len) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the maximum context length is ", capacity.max_model_len, " tokens; the prompt has ",
        num_prompt, " and ", request.max_tokens, " more were asked for (max_tokens)"));
  }
  const uint32_t num_pages = MaxPagesOf(capacity, request);
  if (num_pages > capacity.num_pages) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the KV cache holds ", uint64_t{capacity.num_pages} * capacity.page_size_tokens,
        " tokens; the prompt has ", num_prompt, " and ", request.max_tokens,
        " more were asked for (max_tokens)"));
  }
  for (TokenId id : request.prompt_token_ids) {
    if (id >= capacity.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "prompt: token id ", id, " is outside the model's vocabulary of ", capacity.vocab_size));
    }
  }
  return absl::OkStatus();
}

void AddRequest(SchedulerState& state, RequestPtr request) {
  MILI_CHECK(!request->prompt_token_ids.empty() && request->num_choices > 0,
             "a request has a prompt and a choice");
  auto owned = std::make_unique<RequestRecord>();
  RequestRecord& record = *owned;
  const RequestKey key = request->key;
  MILI_CHECK(state.requests.emplace(key, std::move(owned)).second, "request keys are unique");
  record.request = std::move(request);
  const Request& asked = *record.request;
  const bool by_priority = state.options.policy == SchedulerOptions::Policy::kPriority;
  record.num_unfinished = asked.num_choices;
  record.choices.resize(asked.num_choices);
  for (uint32_t i = 0; i < asked.num_choices; ++i) {
    Sequence& sequence = record.choices[i];
    sequence.record = &record;
    sequence.choice_idx = i;
    sequence.queue_key = {by_priority ? asked.priority : 0, asked.arrival, key, i};
    state.waiting.emplace(sequence.queue_key, &sequence);
  }
  record.slot_deadline = asked.queue_deadline;
  IndexDeadline(state, record);
  AddNews(state, record);
  const uint32_t num_choices = asked.num_choices;
  for (uint32_t i = 0; i < num_choices; ++i) {
    if (NeedsComputation(record.choices[i])) continue;
    const bool is_last = record.num_unfinished == 1;
    EndSequence(state, record.choices[i],
                FinishEvent(record.choices[i], Ended(FinishReason::kLength)));
    if (is_last) return;
  }
}

void EndSequence(SchedulerState& state, Sequence& sequence, TokenEvent event) {
  MILI_CHECK(sequence.state != Sequence::State::kEnded && event.finish.has_value(),
             "a choice finishes once");
  switch (sequence.state) {
    case Sequence::State::kWaiting:
      state.waiting.erase(sequence.queue_key);
      break;
    case Sequence::State::kRunning:
      LeaveSlot(state, sequence);
      break;
    case Sequence::State::kDraining:
      --state.num_draining;
      break;
    case Sequence::State::kEnded:
      break;
  }
  TurnRowsIntoGhosts(state, sequence);
  sequence.state = Sequence::State::kEnded;
  state.events.push_back(std::move(event));
  RequestRecord& record = *sequence.record;
  if (--record.num_unfinished == 0) {
    EraseRecord(state, record);
  } else {
    AddNews(state, record);
  }
}

void EndRequest(SchedulerState& state, RequestRecord& record, const Finish& finish) {
  uint32_t num_left = record.num_unfinished;
  for (size_t i = 0; num_left > 0; ++i) {
    Sequence& sequence = record.choices[i];
    if (sequence.state == Sequence::State::kEnded) continue;
    --num_left;
    EndSequence(state, sequence, FinishEvent(sequence, finish));
  }
}

void Preempt(SchedulerState& state, Sequence& sequence) {
  LeaveSlot(state, sequence);
  sequence.state = Sequence::State::kDraining;
  ++state.num_draining;
  ++state.num_preemptions;
  ++sequence.record->num_preemptions;
  AddNews(state, *sequence.record);
  if (sequence.num_rows_in_flight == 0) Requeue(state, sequence);
}

void Requeue(SchedulerState& state, Sequence& sequence) {
  sequence.state = Sequence::State::kWaiting;
  --state.num_draining;
  state.waiting.emplace(sequence.queue_key, &sequence);
}

void IndexDeadline(SchedulerState& state, RequestRecord& record) {
  const RequestKey key = record.request->key;
  const absl::Time nearest = std::min(record.request->deadline, record.slot_deadline);
  if (nearest == record.indexed_deadline) return;
  if (record.indexed_deadline != absl::InfiniteFuture()) {
    state.deadlines.erase({record.indexed_deadline, key});
  }
  if (nearest != absl::InfiniteFuture()) state.deadlines.insert({nearest, key});
  record.indexed_deadline = nearest;
}

void AddNews(SchedulerState& state, RequestRecord& record) {
  if (record.is_in_news) return;
  record.is_in_news = true;
  state.news.push_back(record.request->key);
}

}  // namespace mili::router

#include "router/sched/scheduler.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/check.h"
#include "router/sched/apply.h"
#include "router/sched/error_details.h"
#include "router/sched/lifecycle.h"
#include "router/sched/plan.h"

namespace mili::router {
namespace {

Capacity CapacityOf(const SchedulerOptions& options, const WorkerFacts& facts) {
  const auto at_most = [](uint32_t limit, uint32_t has) {
    return limit == 0 ? has : std::min(limit, has);
  };
  Capacity capacity;
  capacity.page_size_tokens = facts.page_size_tokens;
  capacity.num_pages = facts.num_pages;
  capacity.max_num_seqs = at_most(options.max_num_seqs, facts.num_slots);
  capacity.max_num_batched_tokens =
      at_most(options.max_num_batched_tokens, facts.max_num_batched_tokens);
  capacity.max_model_len = facts.max_model_len;
  capacity.vocab_size = facts.vocab_size;
  return capacity;
}

// Requests with a row in a step that was not answered.
std::vector<RequestRecord*> RequestsInFlight(const SchedulerState& state) {
  std::vector<RequestRecord*> records;
  for (const InFlightStep& step : state.in_flight) {
    for (const InFlightRow& row : step.rows) {
      if (row.sequence != nullptr) records.push_back(row.sequence->record);
    }
  }
  std::sort(records.begin(), records.end(), [](const RequestRecord* a, const RequestRecord* b) {
    return a->request->key < b->request->key;
  });
  records.erase(std::unique(records.begin(), records.end()), records.end());
  return records;
}

// Puts every sequence that holds something of the lost epoch back into the queue.
void RestartAll(SchedulerState& state) {
  for (auto& [key, record] : state.requests) {
    for (Sequence& sequence : record->choices) {
      if (sequence.state != Sequence::State::kRunning &&
          sequence.state != Sequence::State::kDraining) {
        continue;
      }
      sequence.pages.clear();
      sequence.num_rows_in_flight = 0;
      sequence.num_samples_in_flight = 0;
      sequence.state = Sequence::State::kWaiting;
      state.waiting.emplace(sequence.queue_key, &sequence);
      AddNews(state, *record);
    }
  }
  state.running.clear();
  state.num_draining = 0;
}

absl::Status LostTwice(const RequestRecord& record) {
  return WithErrorReason(
      absl::InternalError(absl::StrCat(
          "the worker was lost twice while it computed this request (prompt of ",
          record.num_prompt_tokens(), " tokens, ", record.num_output_tokens, " produced)")),
      "REQUEST_LOST_TWICE");
}

// Why the request ends at `now`.
absl::Status ExpiryOf(const SchedulerState& state, const RequestRecord& record, absl::Time now,
                      absl::Duration retry_after) {
  const Request& request = *record.request;
  const std::string waited =
      absl::FormatDuration(absl::Trunc(now - request.arrival, absl::Milliseconds(1)));
  if (!state.is_open() && record.started.has_value()) {
    return WithRetryDelay(
        absl::UnavailableError(absl::StrCat("the worker was lost and none came back in time, ",
                                            waited, " after the request arrived")),
        retry_after);
  }
  if (now >= request.deadline) {
    return absl::DeadlineExceededError(absl::StrCat("the request did not end within ", waited));
  }
  return WithRetryDelay(
      absl::UnavailableError(absl::StrCat("the request waited in the queue for ", waited)),
      retry_after);
}

}  // namespace

absl::Status CheckFits(const SchedulerOptions& options, const WorkerFacts& facts,
                       const Request& request) {
  return CheckFits(CapacityOf(options, facts), request);
}

absl::Status CheckFacts(const WorkerFacts& facts) {
  const auto zero = [](absl::string_view name) {
    return absl::FailedPreconditionError(absl::StrCat("the worker reports ", name, " = 0"));
  };
  if (facts.page_size_tokens == 0) return zero("page_size_tokens");
  if (facts.num_pages == 0) return zero("num_pages");
  if (facts.num_slots == 0) return zero("num_slots");
  if (facts.max_num_batched_tokens == 0) return zero("max_num_batched_tokens");
  if (facts.max_model_len == 0) return zero("max_model_len");
  if (facts.vocab_size == 0) return zero("vocab_size");
  constexpr uint32_t kMostPages = 1u << 28;
  constexpr uint32_t kMostSlots = 1u << 20;
  if (facts.num_pages > kMostPages || facts.num_slots > kMostSlots) {
    return absl::FailedPreconditionError(
        absl::StrCat("the worker reports ", facts.num_pages, " pages and ", facts.num_slots,
                     " slots; at most ", kMostPages, " and ", kMostSlots, " are believed"));
  }
  return absl::OkStatus();
}

Scheduler::Scheduler(SchedulerOptions options) {
  MILI_CHECK(options.run_ahead_depth >= 1, "one step in flight at least");
  state_.options = options;
}

absl::Status Scheduler::Add(RequestPtr request) {
  if (state_.is_open()) {
    if (absl::Status s = CheckFits(state_.capacity, *request); !s.ok()) return s;
  }
  AddRequest(state_, std::move(request));
  return absl::OkStatus();
}

void Scheduler::Refuse(const Request& request, const absl::Status& status) {
  for (uint32_t i = 0; i < request.num_choices; ++i) {
    TokenEvent event;
    event.request = request.key;
    event.choice_idx = i;
    event.finish = Failed(status);
    state_.events.push_back(std::move(event));
  }
}

bool Scheduler::Cancel(RequestKey key, const absl::Status& reason) {
  const auto it = state_.requests.find(key);
  if (it == state_.requests.end()) return false;
  EndRequest(state_, *it->second, reason.ok() ? Ended(FinishReason::kStop) : Failed(reason));
  return true;
}

bool Scheduler::Abort(RequestKey key) {
  const auto it = state_.requests.find(key);
  if (it == state_.requests.end()) return false;
  EndRequest(state_, *it->second, Ended(FinishReason::kAbort));
  return true;
}

bool Scheduler::FinishChoice(RequestKey key, uint32_t choice_idx) {
  const auto it = state_.requests.find(key);
  if (it == state_.requests.end()) return false;
  std::vector<Sequence>& choices = it->second->choices;
  if (choice_idx >= choices.size()) return false;
  Sequence& sequence = choices[choice_idx];
  if (sequence.state == Sequence::State::kEnded) return true;
  TokenEvent event;
  event.request = key;
  event.choice_idx = choice_idx;
  event.finish = Ended(FinishReason::kStop);
  EndSequence(state_, sequence, std::move(event));
  return true;
}

void Scheduler::FailAll(const absl::Status& status) {
  while (!state_.requests.empty()) {
    EndRequest(state_, *state_.requests.begin()->second, Failed(status));
  }
}

std::optional<StepPlan> Scheduler::Next(absl::Time now) { return PlanStep(state_, now); }

absl::Status Scheduler::Apply(StepResult result, absl::Time now) {
  if (!state_.is_open() || result.epoch != state_.epoch) return absl::OkStatus();
  if (absl::Status s = CheckResult(state_, result); !s.ok()) return s;
  ApplyResult(state_, std::move(result), now);
  return absl::OkStatus();
}

void Scheduler::OpenEpoch(Epoch epoch, const WorkerFacts& facts) {
  MILI_CHECK(!state_.is_open(), "one epoch at a time");
  MILI_CHECK(CheckFacts(facts).ok(), "facts are checked at the door");
  state_.epoch = epoch;
  state_.capacity = CapacityOf(state_.options, facts);
  state_.last_step = StepId(0);
  state_.pool.emplace(facts.num_pages);
  state_.free_slots.clear();
  state_.to_release.clear();
  for (uint32_t i = state_.capacity.max_num_seqs; i > 0; --i) {
    state_.free_slots.push_back(SlotId(i - 1));
  }
  std::vector<std::pair<RequestRecord*, absl::Status>> misfits;
  for (auto& [key, record] : state_.requests) {
    absl::Status status = CheckFits(state_.capacity, *record->request);
    if (!status.ok()) misfits.emplace_back(record.get(), std::move(status));
  }
  for (auto& [record, status] : misfits) EndRequest(state_, *record, Failed(status));
}

void Scheduler::LoseEpoch(absl::Time now) {
  if (!state_.is_open()) return;
  std::vector<RequestRecord*> lost = RequestsInFlight(state_);
  state_.in_flight.clear();
  RestartAll(state_);
  state_.free_slots.clear();
  state_.to_release.clear();
  MILI_CHECK(state_.pool->num_free() == state_.pool->num_total(), "a lost epoch holds no page");
  state_.pool.reset();
  for (auto& [key, record] : state_.requests) {
    if (!record->started.has_value()) continue;
    record->slot_deadline = now + (record->request->queue_deadline - record->request->arrival);
    IndexDeadline(state_, *record);
  }
  for (RequestRecord* record : lost) {
    if (++record->num_lost_batches < 2) continue;
    EndRequest(state_, *record, Failed(LostTwice(*record)));
  }
}

void Scheduler::Expire(absl::Time now, absl::Duration retry_after) {
  while (!state_.deadlines.empty() && state_.deadlines.begin()->first <= now) {
    RequestRecord& record = *state_.requests.at(state_.deadlines.begin()->second);
    EndRequest(state_, record, Failed(ExpiryOf(state_, record, now, retry_after)));
  }
}

absl::Time Scheduler::next_deadline() const {
  return state_.deadlines.empty() ? absl::InfiniteFuture() : state_.deadlines.begin()->first;
}

std::vector<TokenEvent> Scheduler::TakeEvents() { return std::exchange(state_.events, {}); }

std::vector<RequestProgress> Scheduler::TakeNews() {
  std::vector<RequestProgress> news = std::exchange(state_.finished_news, {});
  for (RequestKey key : std::exchange(state_.news, {})) {
    const auto it = state_.requests.find(key);
    if (it == state_.requests.end()) continue;
    it->second->is_in_news = false;
    news.push_back(ProgressOf(*it->second));
  }
  return news;
}

std::vector<std::unique_ptr<RequestRecord>> Scheduler::TakeRequests() {
  MILI_CHECK(!state_.is_open(), "requests move between epochs only");
  std::vector<std::unique_ptr<RequestRecord>> records;
  for (auto& [key, record] : state_.requests) records.push_back(std::move(record));
  state_.requests.clear();
  state_.waiting.clear();
  state_.deadlines.clear();
  state_.news.clear();
  return records;
}

void Scheduler::Adopt(std::unique_ptr<RequestRecord> record) {
  RequestRecord& adopted = *record;
  const RequestKey key = adopted.request->key;
  MILI_CHECK(state_.requests.emplace(key, std::move(record)).second, "request keys are unique");
  for (Sequence& sequence : adopted.choices) {
    if (sequence.state == Sequence::State::kEnded) continue;
    state_.waiting.emplace(sequence.queue_key, &sequence);
  }
  adopted.indexed_deadline = absl::InfiniteFuture();
  adopted.is_in_news = false;
  IndexDeadline(state_, adopted);
  AddNews(state_, adopted);
  if (!state_.is_open()) return;
  if (absl::Status s = CheckFits(state_.capacity, *adopted.request); !s.ok()) {
    EndRequest(state_, adopted, Failed(s));
  }
}

std::vector<RequestKey> Scheduler::WaitingRequests() const {
  std::vector<RequestKey> keys;
  keys.reserve(state_.waiting.size());
  for (const auto& [key, sequence] : state_.waiting) {
    if (keys.empty() || keys.back() != key.request) keys.push_back(key.request);
  }
  return keys;
}

}  // namespace mili::router

#include "tests/router/sched/invariants.h"

#include <algorithm>
#include <set>

#include <absl/strings/str_cat.h>

namespace mili::router::testing {
namespace {

using Broken = std::optional<std::string>;

Broken CheckPages(const SchedulerState& state) {
  size_t num_leased = 0;
  std::set<PageId> pages;
  const auto count = [&](const PageTable& table) {
    for (const PageLease& lease : table) pages.insert(lease.page());
    num_leased += table.size();
  };
  for (const auto& [key, record] : state.requests) {
    for (const Sequence& sequence : record->choices) {
      if (sequence.state != Sequence::State::kRunning && !sequence.pages.empty()) {
        return "a sequence outside a slot holds pages";
      }
      count(sequence.pages);
    }
  }
  for (const InFlightStep& step : state.in_flight) count(step.retired);
  if (pages.size() != num_leased) return "a page is leased twice";
  if (!state.pool.has_value()) {
    if (num_leased > 0) return "pages are held without an epoch";
    return std::nullopt;
  }
  if (!state.pool->adds_up()) return "free + leased + cached is not the total";
  if (state.pool->num_leased() != num_leased) return "a leased page is in no table";
  return std::nullopt;
}

Broken CheckQueues(const SchedulerState& state) {
  size_t num_waiting = 0, num_running = 0, num_draining = 0;
  for (const auto& [key, record] : state.requests) {
    uint32_t num_unfinished = 0;
    for (const Sequence& sequence : record->choices) {
      if (sequence.record != record.get()) return "a sequence lost its request";
      if (sequence.state == Sequence::State::kEnded) continue;
      ++num_unfinished;
      if (sequence.state == Sequence::State::kWaiting) {
        ++num_waiting;
        const auto it = state.waiting.find(sequence.queue_key);
        if (it == state.waiting.end() || it->second != &sequence) return "waits in no queue";
      } else if (sequence.state == Sequence::State::kRunning) {
        ++num_running;
        const auto it = state.running.find(sequence.queue_key);
        if (it == state.running.end() || it->second != &sequence) return "runs outside the list";
      } else {
        ++num_draining;
        if (sequence.num_rows_in_flight == 0) return "drains with nothing in flight";
      }
    }
    if (num_unfinished == 0 || num_unfinished != record->num_unfinished) {
      return "a request miscounts its unfinished choices";
    }
  }
  if (num_waiting != state.waiting.size()) return "the queue names a sequence that does not wait";
  if (num_running != state.running.size()) return "the list of running names one that does not";
  if (num_draining != state.num_draining) return "draining sequences are miscounted";
  return std::nullopt;
}

Broken CheckSlots(const SchedulerState& state) {
  if (!state.is_open()) return std::nullopt;
  std::set<SlotId> slots(state.free_slots.begin(), state.free_slots.end());
  for (const auto& [key, sequence] : state.running) slots.insert(sequence->slot);
  if (slots.size() != state.free_slots.size() + state.running.size()) {
    return "a slot is held twice, or held and free";
  }
  if (slots.size() != state.capacity.max_num_seqs) return "a slot is lost";
  return std::nullopt;
}

Broken CheckInFlight(const SchedulerState& state) {
  if (state.in_flight.size() > state.options.run_ahead_depth) return "too many steps in flight";
  if (!state.is_open() && !state.in_flight.empty()) return "steps in flight without an epoch";
  std::map<const Sequence*, std::pair<uint32_t, uint32_t>> rows;
  for (const InFlightStep& step : state.in_flight) {
    uint32_t num_tokens = 0;
    for (const InFlightRow& row : step.rows) {
      num_tokens += row.num_tokens;
      if (row.sequence == nullptr) continue;
      ++rows[row.sequence].first;
      if (row.samples) ++rows[row.sequence].second;
    }
    if (num_tokens > state.capacity.max_num_batched_tokens) return "a step is over its budget";
  }
  for (const auto& [key, record] : state.requests) {
    for (const Sequence& sequence : record->choices) {
      const auto it = rows.find(&sequence);
      const auto expected = it == rows.end() ? std::pair<uint32_t, uint32_t>{} : it->second;
      if (sequence.num_rows_in_flight != expected.first ||
          sequence.num_samples_in_flight != expected.second) {
        return "a sequence miscounts its rows in flight";
      }
      if (it != rows.end()) rows.erase(it);
      if (sequence.output.size() + sequence.num_samples_in_flight > record->request->max_tokens) {
        return "a sequence runs beyond max_tokens";
      }
    }
  }
  if (!rows.empty()) return "a row in flight names a sequence that is gone";
  return std::nullopt;
}

}  // namespace

std::optional<std::string> FindBrokenInvariant(const SchedulerState& state) {
  for (auto* check : {CheckPages, CheckQueues, CheckSlots, CheckInFlight}) {
    if (Broken broken = check(state); broken.has_value()) return broken;
  }
  return std::nullopt;
}

}  // namespace mili::router::testing

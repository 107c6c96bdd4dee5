// SchedulerState: all data of one scheduler. The phases (plan, apply, lifecycle) are functions over
// it; only they and Scheduler write it, on the scheduler thread. No clock, no thread, no gRPC.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/core/request.h"
#include "common/core/step_plan.h"
#include "common/core/worker_facts.h"
#include "router/kv/kv_page_pool.h"
#include "router/sched/options.h"
#include "router/sched/sequence.h"

namespace mili::router {

// One row of a submitted step, with what its result must look like.
struct InFlightRow {
  SlotId slot;
  Sequence* sequence = nullptr;  // null: a ghost, whose result is dropped
  uint32_t start = 0;            // position of its first token
  uint32_t num_tokens = 0;
  bool samples = false;
  uint32_t num_prompt_logprobs = 0;
};

struct InFlightStep {
  StepId id;
  std::vector<InFlightRow> rows;
  // Pages of sequences that left their slot; this is the last submitted step that names them.
  PageTable retired;
};

// What of the facts the scheduler plans with, cut to the operator's options.
struct Capacity {
  uint32_t page_size_tokens = 0;
  uint32_t num_pages = 0;
  uint32_t max_num_seqs = 0;
  uint32_t max_num_batched_tokens = 0;
  uint32_t max_model_len = 0;
  uint32_t vocab_size = 0;
};

struct SchedulerState {
  SchedulerOptions options;

  // The open epoch; none: nothing is planned. The pool stands first so that it dies last.
  std::optional<KvPagePool> pool;
  Epoch epoch;
  Capacity capacity;
  StepId last_step;
  std::deque<InFlightStep> in_flight;  // oldest first
  std::vector<SlotId> free_slots;      // a stack; those in to_release are among them
  std::vector<SlotId> to_release;      // told to the worker with the next plan

  std::unordered_map<RequestKey, std::unique_ptr<RequestRecord>> requests;
  std::map<QueueKey, Sequence*> waiting;
  std::map<QueueKey, Sequence*> running;
  uint32_t num_draining = 0;
  std::set<std::pair<absl::Time, RequestKey>> deadlines;  // finite ones

  std::vector<TokenEvent> events;              // to be taken
  std::vector<RequestKey> news;                // of live requests, to be taken
  std::vector<RequestProgress> finished_news;  // of ended ones
  uint64_t num_preemptions = 0;

  bool is_open() const { return pool.has_value(); }
  uint32_t num_slots_total() const { return capacity.max_num_seqs; }
};

inline uint32_t PagesFor(const Capacity& capacity, uint64_t num_tokens) {
  return static_cast<uint32_t>((num_tokens + capacity.page_size_tokens - 1) /
                               capacity.page_size_tokens);
}

// Pages of the sequence at its longest. The last token is sampled, never fed back.
inline uint32_t MaxPagesOf(const Capacity& capacity, const Request& request) {
  return PagesFor(capacity, request.prompt_token_ids.size() + request.max_tokens - 1);
}

}  // namespace mili::router

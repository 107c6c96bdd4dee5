// Sequence and RequestRecord: the scheduler's own view of what runs. A sequence is one choice's
// token stream; its request owns it. Touched by the scheduler thread alone.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <vector>

#include <absl/time/time.h>

#include "common/base/ids.h"
#include "common/core/request.h"
#include "router/kv/kv_page_pool.h"

namespace mili::router {

struct RequestRecord;

// Place in every order of the scheduler: the smaller goes first. Restarted sequences keep theirs
// and so stand in front of all that came after them.
struct QueueKey {
  int32_t priority = 0;  // always 0 under fcfs
  absl::Time arrival;
  RequestKey request;
  uint32_t choice_idx = 0;

  friend bool operator==(const QueueKey&, const QueueKey&) = default;
  friend bool operator<(const QueueKey& a, const QueueKey& b) {
    if (a.priority != b.priority) return a.priority < b.priority;
    if (a.arrival != b.arrival) return a.arrival < b.arrival;
    if (a.request != b.request) return a.request < b.request;
    return a.choice_idx < b.choice_idx;
  }
};

struct Sequence {
  enum class State {
    kWaiting,   // in the queue; holds neither slot nor page
    kRunning,   // in a slot
    kDraining,  // preempted: no slot, no pages, waits for its rows in flight, then kWaiting
    kEnded,     // its finish was emitted; no row in flight names it any more
  };

  RequestRecord* record = nullptr;
  uint32_t choice_idx = 0;
  State state = State::kWaiting;
  QueueKey queue_key;
  // Tokens produced and emitted; with the prompt these are the known tokens.
  std::vector<TokenId> output;

  // While kRunning:
  SlotId slot;
  PageTable pages;
  // Tokens the SeqStart of this stay named; those after them are fed by kLastSampled.
  uint32_t num_started_tokens = 0;
  // Positions whose computation was submitted.
  uint32_t num_submitted_tokens = 0;

  // While kRunning or kDraining: rows submitted and not answered, and those of them that sample.
  uint32_t num_rows_in_flight = 0;
  uint32_t num_samples_in_flight = 0;
};

// A request with its choices. Lives until the last choice has finished.
struct RequestRecord {
  RequestPtr request;
  std::vector<Sequence> choices;  // [num_choices], never resized: rows in flight point into it
  uint32_t num_unfinished = 0;
  uint32_t num_preemptions = 0;
  uint32_t num_lost_batches = 0;
  // Of prompt tokens 1 .., emitted by choice 0.
  uint32_t num_prompt_logprobs_emitted = 0;
  uint32_t num_output_tokens = 0;  // of all choices
  std::optional<absl::Time> started;
  std::optional<absl::Time> first_token;
  // To get a slot: the request's own at first; again that long after a lost worker.
  absl::Time slot_deadline = absl::InfiniteFuture();
  // The key under which SchedulerState::deadlines knows this request.
  absl::Time indexed_deadline = absl::InfiniteFuture();
  bool is_in_news = false;

  uint32_t num_prompt_tokens() const {
    return static_cast<uint32_t>(request->prompt_token_ids.size());
  }
};

// What people may ask about a request.
struct RequestProgress {
  enum class State { kWaiting, kRunning, kRestarting, kFinished };
  RequestKey key;
  State state = State::kWaiting;
  uint32_t num_output_tokens = 0;
  uint32_t num_preemptions = 0;
  uint32_t num_lost_batches = 0;
  std::optional<absl::Time> started;
  std::optional<absl::Time> first_token;
};

RequestProgress ProgressOf(const RequestRecord& record);

inline uint32_t NumKnownTokens(const Sequence& sequence) {
  return sequence.record->num_prompt_tokens() + static_cast<uint32_t>(sequence.output.size());
}

// Only the prompt is to be scored; nothing is sampled.
inline bool IsScoring(const Sequence& sequence) {
  return sequence.record->request->max_tokens == 0;
}

// Known tokens that are computed before decoding begins. The last prompt token has no successor to
// score, so scoring leaves it out.
inline uint32_t NumTokensToPrefill(const Sequence& sequence) {
  return IsScoring(sequence) ? NumKnownTokens(sequence) - 1 : sequence.num_started_tokens;
}

// In a slot and still computing known tokens.
inline bool IsPrefilling(const Sequence& sequence) {
  return sequence.num_submitted_tokens < NumTokensToPrefill(sequence);
}

// Samples submitted and received reach max_tokens, or all is scored: no further row is wanted.
inline bool IsFullySubmitted(const Sequence& sequence) {
  if (IsPrefilling(sequence)) return false;
  return sequence.output.size() + sequence.num_samples_in_flight >=
         sequence.record->request->max_tokens;
}

}  // namespace mili::router

// Engine: the whole of the router behind the API: admission, scheduling, dispatch. The api talks to
// this interface only; tests put a fake behind it. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include "common/base/ids.h"
#include "common/core/request.h"
#include "common/core/worker_facts.h"
#include "router/loop/token_sink.h"

namespace mili::router {

// What is to be known of a request by its id.
struct RequestStatus {
  enum class State { kWaiting, kRunning, kRestarting, kFinished };
  State state = State::kWaiting;
  uint32_t queue_place = 0;  // 1 is next; 0: not in the queue
  uint32_t num_prompt_tokens = 0;
  uint32_t num_output_tokens = 0;
  uint32_t num_preemptions = 0;
  uint32_t num_lost_batches = 0;
  absl::Time arrived;
  std::optional<absl::Time> started;
  std::optional<absl::Time> first_token;
  std::optional<absl::Time> finished;
  std::string outcome;
};

// A snapshot of one group, published by its loop after each step.
struct GroupSnapshot {
  std::vector<std::string> workers;
  bool is_ready = false;            // attached and able to compute
  bool has_produced_token = false;  // a real token came out in this epoch
  bool is_step_overdue = false;
  std::string not_ready_reason;  // why is_ready is false, for people
  Epoch epoch;
  uint32_t num_running = 0;
  uint32_t num_waiting = 0;
  uint32_t num_pages_total = 0;
  uint32_t num_pages_free = 0;
  uint32_t num_pages_leased = 0;
  uint32_t num_pages_cached = 0;
  uint32_t num_slots_total = 0;
  uint32_t num_slots_free = 0;
  std::shared_ptr<const WorkerFacts> facts;  // of rank 0; null until described
};

class Engine {
 public:
  virtual ~Engine() = default;

  // A place behind the door for a request of at most `num_bytes` (before it is tokenised);
  // RESOURCE_EXHAUSTED when the queue is full, with how long to wait in the second member;
  // UNAVAILABLE when draining or no worker has ever been ready.
  struct Refusal {
    absl::Status status;
    absl::Duration retry_after;
  };
  struct Admission {
    std::unique_ptr<Ticket> ticket;  // null: refused
    Refusal refusal;
  };
  virtual Admission Admit(uint64_t num_bytes, uint32_t num_choices) = 0;

  // Hands a request over; from then on `sink` hears of it until every choice has finished. A
  // refusal here (no page for it ever, mailbox full) means the sink will never hear of it.
  virtual absl::Status Submit(RequestPtr request, std::shared_ptr<TokenSink> sink) = 0;

  // The choices of a request that have not finished end now: `reason` OK ends them with
  // FinishReason::kStop (a stop string matched; only `choice_idx`), else with that status. Unknown
  // keys are passed over.
  virtual void Cancel(RequestKey key, absl::Status reason) = 0;
  virtual void FinishChoice(RequestKey key, uint32_t choice_idx) = 0;
  // Ends requests with FinishReason::kAbort by the client's ids; how many were found.
  virtual uint32_t Abort(const std::vector<std::string>& request_ids) = 0;

  virtual std::optional<RequestStatus> Find(const std::string& request_id) const = 0;
  virtual std::vector<GroupSnapshot> Groups() const = 0;
  virtual uint32_t num_active_requests() const = 0;

  // From now on Admit refuses; calls `on_drained` once no request is left.
  virtual void Drain(std::function<void()> on_drained) = 0;
};

}  // namespace mili::router

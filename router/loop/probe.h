// SchedulerProbe: what a scheduler loop tells of itself to metrics. The api implements it with
// prometheus, tests with a recorder; the loop knows neither.
#pragma once

#include <cstddef>
#include <cstdint>

#include <absl/time/time.h>

#include "router/loop/engine.h"

namespace mili::router {

// The end of one request, all choices together.
struct FinishedRequest {
  // "stop", "length", "abort" (also: cancelled by its client) or "error"; of n choices the first's,
  // unless the request failed.
  const char* finished_reason = "stop";
  absl::Duration e2e;  // from arrival to the terminal status
  uint32_t num_prompt_tokens = 0;
  uint32_t num_generation_tokens = 0;  // over all choices
};

// Called in the loops' rounds, several at once; must not block and must not call back.
class SchedulerProbe {
 public:
  virtual ~SchedulerProbe() = default;
  // After each round of a loop that changed something: num_requests_running, num_requests_waiting,
  // kv_cache_usage_perc. The implementer adds up the groups.
  virtual void OnSnapshot(size_t group_idx, const GroupSnapshot& snapshot) = 0;
  // A step was sent that computes this many tokens: iteration_tokens_total.
  virtual void OnStepSent(uint32_t num_tokens) = 0;
  // Sequences lost their pages to older ones: num_preemptions_total.
  virtual void OnPreempted(uint32_t num_sequences) = 0;
  // A request got its first slot (once a request, restarts not counted): prompt_tokens_total,
  // request_queue_time_seconds.
  virtual void OnStarted(uint32_t num_prompt_tokens, absl::Duration queued) = 0;
  // Once a request: time_to_first_token_seconds, from arrival.
  virtual void OnFirstToken(absl::Duration since_arrival) = 0;
  // For each further token of a choice: inter_token_latency_seconds.
  virtual void OnNextToken(absl::Duration since_last) = 0;
  // Tokens handed to a sink: generation_tokens_total.
  virtual void OnGenerated(uint32_t num_tokens) = 0;
  // request_success_total{finished_reason}, e2e_request_latency_seconds.
  virtual void OnFinished(const FinishedRequest& facts) = 0;
};

}  // namespace mili::router

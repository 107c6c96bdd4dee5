// RouterEvent: everything a scheduler loop can be told. Plain data in one mailbox; only Submit may
// be refused when the mailbox is full.
#pragma once

#include <cstdint>
#include <memory>
#include <variant>

#include <absl/status/status.h>

#include "common/core/request.h"
#include "common/core/step_plan.h"
#include "common/core/worker_facts.h"
#include "router/loop/delivery.h"
#include "router/sched/sequence.h"

namespace mili::router {

struct SubmitEvent {
  RequestPtr request;
  std::shared_ptr<TokenSink> sink;
};
// A request that began at another group goes on at this one.
struct AdoptEvent {
  std::unique_ptr<RequestRecord> record;
  Recipient recipient;
};
struct CancelEvent {
  RequestKey key;
  absl::Status reason;
};
struct FinishChoiceEvent {
  RequestKey key;
  uint32_t choice_idx = 0;
};
struct AbortEvent {
  RequestKey key;
};
struct ProgressEvent {
  uint64_t loaded_bytes = 0;
  uint64_t total_bytes = 0;
};
struct AttachedEvent {
  Epoch epoch;
  WorkerFacts facts;
};
struct StepDoneEvent {
  StepResult result;
};
struct LostEvent {
  Epoch epoch;
  absl::Status reason;
};
// Another group became ready; requests that wait here for a lost worker may go there.
struct PeerReadyEvent {};

using RouterEvent =
    std::variant<SubmitEvent, AdoptEvent, CancelEvent, FinishChoiceEvent, AbortEvent, ProgressEvent,
                 AttachedEvent, StepDoneEvent, LostEvent, PeerReadyEvent>;

}  // namespace mili::router

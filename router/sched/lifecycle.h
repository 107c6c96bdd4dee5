// How sequences begin, leave their slot, restart and end: the moves that planning and applying
// share. Functions over SchedulerState.
#pragma once

#include "router/sched/state.h"

namespace mili::router {

Finish Ended(FinishReason reason, std::optional<TokenId> matched_token_id = std::nullopt);
Finish Failed(absl::Status status);

// Adds the request to the queue. Choices that need no computation end here.
void AddRequest(SchedulerState& state, RequestPtr request);

// Why the request can never run with this capacity; OK if it can. INVALID_ARGUMENT.
absl::Status CheckFits(const Capacity& capacity, const Request& request);

// Emits `event`, whose finish is set, as the sequence's last and takes it out of slot and queue.
// Its rows in flight become ghosts. The record dies with its last choice, and the sequence with it.
void EndSequence(SchedulerState& state, Sequence& sequence, TokenEvent event);

// Ends all choices that have not finished. The record is gone afterwards.
void EndRequest(SchedulerState& state, RequestRecord& record, const Finish& finish);

// Takes slot and pages from a running sequence. It restarts once its rows in flight are answered.
void Preempt(SchedulerState& state, Sequence& sequence);

// A draining sequence whose last row was answered goes back to the queue.
void Requeue(SchedulerState& state, Sequence& sequence);

// Enters the record's nearest deadline into the index; call after changing slot_deadline.
void IndexDeadline(SchedulerState& state, RequestRecord& record);

void AddNews(SchedulerState& state, RequestRecord& record);

}  // namespace mili::router

// What each event does to a SchedulerLoop.
#include <utility>

#include <absl/strings/str_cat.h>

#include "router/loop/scheduler_loop.h"

namespace mili::router {
namespace {

constexpr absl::Duration kPatienceWithSilence = absl::Seconds(2);

}  // namespace

void SchedulerLoop::Handle(SubmitEvent event) {
  const RequestPtr request = event.request;
  delivery_.Add(*request, std::move(event.sink));
  if (absl::Status status = scheduler_.Add(request); !status.ok()) {
    // The engine measured it by facts that have changed since: it fails like any other.
    scheduler_.Refuse(*request, status);
  }
}

void SchedulerLoop::Handle(AdoptEvent event) {
  delivery_.Adopt(event.record->request->key, std::move(event.recipient));
  scheduler_.Adopt(std::move(event.record));
}

void SchedulerLoop::Handle(CancelEvent event) {
  const RequestKey key = event.key;
  if (!scheduler_.Cancel(key, event.reason)) {
    neighbours_->Forward(group_idx_, key, std::move(event));
  }
}

void SchedulerLoop::Handle(FinishChoiceEvent event) {
  const RequestKey key = event.key;
  if (!scheduler_.FinishChoice(key, event.choice_idx)) {
    neighbours_->Forward(group_idx_, key, event);
  }
}

void SchedulerLoop::Handle(AbortEvent event) {
  const RequestKey key = event.key;
  if (!scheduler_.Abort(key)) neighbours_->Forward(group_idx_, key, event);
}

void SchedulerLoop::Handle(ProgressEvent event) {
  not_ready_reason_ = event.total_bytes == 0
                          ? std::string("the worker is reading the model's files")
                          : absl::StrCat("the worker is loading: ", event.loaded_bytes >> 20,
                                         " of ", event.total_bytes >> 20, " MiB");
}

void SchedulerLoop::Handle(AttachedEvent event) {
  absl::Status status = CheckFacts(event.facts);
  if (status.ok()) status = neighbours_->CheckModel(event.facts);
  if (!status.ok()) {
    GiveUpEpoch(std::move(status));
    return;
  }
  is_abandoned_ = false;
  has_produced_token_ = false;
  owes_read_ = false;  // that was of another stream
  watch_.Clear();
  facts_ = std::make_shared<const WorkerFacts>(event.facts);
  unreached_since_ = absl::InfinitePast();
  unreached_reason_.clear();
  scheduler_.OpenEpoch(event.epoch, event.facts);
  neighbours_->Log(absl::StrCat(name_, ": epoch ", event.epoch.value, ", ", event.facts.model_name,
                                " on ", event.facts.device));
  Publish();  // peers look at the snapshot
  neighbours_->OnReady(group_idx_);
}

void SchedulerLoop::Handle(StepDoneEvent event) {
  owes_read_ = true;
  const SchedulerState& state = scheduler_.state();
  if (is_abandoned_ || !state.is_open() || event.result.epoch != state.epoch) return;
  const absl::Time now = clock_->Now();
  if (absl::Status status = scheduler_.Apply(std::move(event.result), now); !status.ok()) {
    GiveUpEpoch(std::move(status));
    return;
  }
  watch_.OnAnswered(now);
}

void SchedulerLoop::Handle(LostEvent event) {
  const bool was_open = scheduler_.state().is_open();
  const std::string reason(event.reason.message());
  if (was_open) neighbours_->Log(absl::StrCat(name_, ": lost: ", reason));
  if (was_open || unreached_since_ == absl::InfinitePast()) unreached_since_ = clock_->Now();
  // A worker that is not there yet is lost again with every try. The log hears of it once, and only
  // if it does not come soon: router and worker may well be started together.
  if (!was_open && unreached_reason_ != reason &&
      clock_->Now() - unreached_since_ >= kPatienceWithSilence) {
    neighbours_->Log(absl::StrCat(name_, ": not reached: ", reason));
    unreached_reason_ = reason;
  }
  not_ready_reason_ = reason;
  is_abandoned_ = false;
  has_produced_token_ = false;
  watch_.Clear();
  scheduler_.LoseEpoch(clock_->Now());
}

void SchedulerLoop::Handle(PeerReadyEvent) {}  // the round that it wakes moves what it can

}  // namespace mili::router

#include "router/loop/scheduler_loop.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "common/base/check.h"

namespace mili::router {
namespace {

uint32_t NumTokens(const StepPlan& plan) {
  uint32_t num = 0;
  for (const SeqStep& row : plan.step) num += row.num_tokens;
  return num;
}

}  // namespace

SchedulerLoop::SchedulerLoop(size_t group_idx, LoopOptions options,
                             std::unique_ptr<GroupClient> client, LoopNeighbours* neighbours,
                             RequestBoard* board, SchedulerProbe* probe, Clock* clock)
    : group_idx_(group_idx),
      options_(options),
      client_(std::move(client)),
      neighbours_(neighbours),
      board_(board),
      probe_(probe),
      clock_(clock),
      name_(absl::StrCat("worker ", absl::StrJoin(client_->addresses(), ","))),
      scheduler_(options.scheduler),
      delivery_(probe),
      watch_(options.step_timeout),
      events_(options.mailbox_capacity,
              [this](std::vector<RouterEvent> events) { return Round(std::move(events)); }) {
  Publish();
}

void SchedulerLoop::Start() {
  events_.Start();
  client_->Start(this);
}

void SchedulerLoop::StopClient() { client_->Stop(); }

void SchedulerLoop::Join() { events_.Stop(); }

void SchedulerLoop::FailLeftovers() {
  HandleAll(events_.Close());
  scheduler_.LoseEpoch(clock_->Now());
  scheduler_.FailAll(absl::UnavailableError("the server is shutting down"));
  not_ready_reason_ = "the server is shutting down";
  Publish();
  delivery_.Send();
}

GroupSnapshot SchedulerLoop::Snapshot() const {
  MutexLock lock(published_mutex_);
  return snapshot_;
}

uint32_t SchedulerLoop::QueuePlace(RequestKey key) const {
  MutexLock lock(published_mutex_);
  const auto it = std::find(waiting_.begin(), waiting_.end(), key);
  return it == waiting_.end() ? 0 : static_cast<uint32_t>(it - waiting_.begin()) + 1;
}

void SchedulerLoop::OnProgress(uint64_t loaded_bytes, uint64_t total_bytes) {
  events_.Post(ProgressEvent{loaded_bytes, total_bytes});
}

void SchedulerLoop::OnAttached(Epoch epoch, const WorkerFacts& facts) {
  events_.Post(AttachedEvent{epoch, facts});
}

void SchedulerLoop::OnResult(StepResult result) {
  events_.PostAndHandle(StepDoneEvent{std::move(result)});
}

void SchedulerLoop::OnLost(Epoch epoch, absl::Status reason) {
  events_.Post(LostEvent{epoch, std::move(reason)});
}

absl::Time SchedulerLoop::Round(std::vector<RouterEvent> events) {
  HandleAll(std::move(events));
  CheckDeadlines();
  SendPlans();
  if (std::exchange(owes_read_, false)) client_->ReadOn();
  MoveAway();
  Publish();
  delivery_.Send();
  return NextWake();
}

// The mailbox waits by the machine's clock, whatever clock the loop was given.
absl::Time SchedulerLoop::NextWake() const {
  const absl::Time now = clock_->Now();
  absl::Time wake = scheduler_.next_deadline();
  if (!is_abandoned_) wake = std::min(wake, watch_.next_change(now));
  if (wake == absl::InfiniteFuture()) return wake;
  return absl::Now() + std::max(wake - now, absl::ZeroDuration());
}

void SchedulerLoop::HandleAll(std::vector<RouterEvent> events) {
  for (RouterEvent& event : events) {
    std::visit([this](auto& e) { Handle(std::move(e)); }, event);
  }
}

void SchedulerLoop::CheckDeadlines() {
  const absl::Time now = clock_->Now();
  if (scheduler_.next_deadline() <= now) scheduler_.Expire(now, neighbours_->RetryAfter());
  if (!is_abandoned_ && watch_.IsHopeless(now)) {
    GiveUpEpoch(absl::DeadlineExceededError("a step was not answered in time"));
  }
}

void SchedulerLoop::SendPlans() {
  if (is_abandoned_) return;
  const absl::Time now = clock_->Now();
  while (std::optional<StepPlan> plan = scheduler_.Next(now)) {
    const uint32_t num_tokens = NumTokens(*plan);
    watch_.OnSent(num_tokens, now);
    if (probe_ != nullptr) probe_->OnStepSent(num_tokens);
    client_->Send(*std::move(plan));
  }
}

// Without a worker of their own, requests go on at another group if one is ready.
void SchedulerLoop::MoveAway() {
  if (scheduler_.state().is_open() || scheduler_.is_idle()) return;
  SchedulerLoop* peer = neighbours_->FindReadyPeer(group_idx_);
  if (peer == nullptr) return;
  // Nothing that happened here may be told after what will happen there.
  Publish();
  delivery_.Send();
  for (std::unique_ptr<RequestRecord>& record : scheduler_.TakeRequests()) {
    const RequestKey key = record->request->key;
    peer->Post(AdoptEvent{std::move(record), delivery_.Take(key)});
    // After the Adopt is posted: whoever reads the new place posts behind it.
    board_->SetGroup(key, peer->group_idx());
  }
}

void SchedulerLoop::Publish() {
  const absl::Time now = clock_->Now();
  const std::vector<RequestProgress> news = scheduler_.TakeNews();
  board_->Update(news);
  std::vector<TokenEvent> events = scheduler_.TakeEvents();
  for (const TokenEvent& event : events) has_produced_token_ |= !event.tokens.empty();
  const Delivery::Outcomes outcomes = delivery_.Account(std::move(events), news, now);

  const GroupSnapshot snapshot = MakeSnapshot(now);
  is_ready_.store(snapshot.is_ready, std::memory_order_release);
  if (snapshot.is_ready) num_slots_.store(snapshot.num_slots_total, std::memory_order_relaxed);
  {
    MutexLock lock(published_mutex_);
    snapshot_ = snapshot;
    waiting_ = scheduler_.WaitingRequests();
  }
  board_->Finish(outcomes, now);
  TellProbe(snapshot);
}

GroupSnapshot SchedulerLoop::MakeSnapshot(absl::Time now) const {
  const SchedulerState& state = scheduler_.state();
  GroupSnapshot snapshot;
  snapshot.workers = client_->addresses();
  snapshot.is_ready = state.is_open() && !is_abandoned_;
  snapshot.has_produced_token = snapshot.is_ready && has_produced_token_;
  snapshot.is_step_overdue = watch_.IsOverdue(now);
  snapshot.not_ready_reason = snapshot.is_ready ? "" : not_ready_reason_;
  snapshot.num_running = static_cast<uint32_t>(state.running.size());
  snapshot.num_waiting = static_cast<uint32_t>(state.waiting.size()) + state.num_draining;
  if (state.is_open()) {
    snapshot.epoch = state.epoch;
    snapshot.num_pages_total = state.pool->num_total();
    snapshot.num_pages_free = state.pool->num_free();
    snapshot.num_pages_leased = state.pool->num_leased();
    snapshot.num_pages_cached = state.pool->num_cached();
    snapshot.num_slots_total = state.num_slots_total();
    snapshot.num_slots_free = static_cast<uint32_t>(state.free_slots.size());
    MILI_CHECK(state.pool->adds_up(), "free + leased + cached is the total");
    MILI_CHECK(!scheduler_.is_idle() || !state.in_flight.empty() || state.pool->num_leased() == 0,
               "an idle scheduler holds no page");
  }
  snapshot.facts = facts_;
  return snapshot;
}

void SchedulerLoop::TellProbe(const GroupSnapshot& snapshot) {
  if (probe_ == nullptr) return;
  const uint64_t num_preemptions = scheduler_.state().num_preemptions;
  if (num_preemptions > num_preemptions_told_) {
    probe_->OnPreempted(static_cast<uint32_t>(num_preemptions - num_preemptions_told_));
    num_preemptions_told_ = num_preemptions;
  }
  probe_->OnSnapshot(group_idx_, snapshot);
}

void SchedulerLoop::GiveUpEpoch(absl::Status reason) {
  is_abandoned_ = true;
  not_ready_reason_ = std::string(reason.message());
  neighbours_->Log(absl::StrCat(name_, ": giving up the epoch: ", reason.ToString()));
  client_->Abandon(std::move(reason));
}

}  // namespace mili::router

// SchedulerLoop: owns the Scheduler of one group and everything about its requests. One thread at a
// time makes its rounds: whoever brings a result or a request if the loop is at rest, else its own.
// Others talk to it by events and read the snapshot it publishes. It never blocks on a client, a
// sink or a lock held for long.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/base/actor.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "router/dispatch/group_client.h"
#include "router/loop/delivery.h"
#include "router/loop/request_board.h"
#include "router/loop/router_event.h"
#include "router/loop/step_watch.h"
#include "router/sched/scheduler.h"

namespace mili::router {

class SchedulerLoop;

// What a loop asks of those around it. Called in a loop's round; must not block.
class LoopNeighbours {
 public:
  virtual ~LoopNeighbours() = default;
  // OK if a worker with these facts may serve here; else why not (another model than before).
  virtual absl::Status CheckModel(const WorkerFacts& facts) = 0;
  // A ready loop that takes over what `group_idx` cannot serve; null if there is none.
  virtual SchedulerLoop* FindReadyPeer(size_t group_idx) = 0;
  virtual void OnReady(size_t group_idx) = 0;
  // Where an event for a request that lives elsewhere goes.
  virtual void Forward(size_t group_idx, RequestKey key, RouterEvent event) = 0;
  // The hint for requests that the queue kept too long.
  virtual absl::Duration RetryAfter() = 0;
  virtual void Log(const std::string& line) = 0;
};

struct LoopOptions {
  SchedulerOptions scheduler;
  absl::Duration step_timeout = absl::Seconds(30);
  // Events that may wait before Submit is refused.
  size_t mailbox_capacity = 4096;
};

class SchedulerLoop final : public GroupListener {
 public:
  // All pointers outlive the loop; `probe` may be null.
  SchedulerLoop(size_t group_idx, LoopOptions options, std::unique_ptr<GroupClient> client,
                LoopNeighbours* neighbours, RequestBoard* board, SchedulerProbe* probe,
                Clock* clock);

  void Start();
  // The end in three parts, each done for all loops before the next, since loops hand requests to
  // each other: no news from the client any more; no rounds; what is left fails with UNAVAILABLE.
  void StopClient();
  void Join();
  void FailLeftovers();

  // Never refused, but after FailLeftovers.
  void Post(RouterEvent event) { events_.Post(std::move(event)); }
  // Handled on the calling thread if the loop is at rest. False: the mailbox is full.
  [[nodiscard]] bool TryPost(RouterEvent event) {
    return events_.TryPostAndHandle(std::move(event));
  }

  GroupSnapshot Snapshot() const;
  // 1 is next; 0: not in the queue.
  uint32_t QueuePlace(RequestKey key) const;
  size_t group_idx() const { return group_idx_; }
  // As in the snapshot, for those who ask at every request. The slots are those of the last epoch.
  bool is_ready() const { return is_ready_.load(std::memory_order_acquire); }
  uint32_t num_slots() const { return num_slots_.load(std::memory_order_relaxed); }

  void OnProgress(uint64_t loaded_bytes, uint64_t total_bytes) override;
  void OnAttached(Epoch epoch, const WorkerFacts& facts) override;
  void OnResult(StepResult result) override;
  void OnLost(Epoch epoch, absl::Status reason) override;

 private:
  // One round: events, deadlines, plans, then what came of them. Returns when the next one is due.
  absl::Time Round(std::vector<RouterEvent> events);
  void HandleAll(std::vector<RouterEvent> events);
  void CheckDeadlines();
  void SendPlans();
  void MoveAway();
  // Everything that happened becomes visible: board, snapshot, probe; sinks hear it at Send.
  void Publish();
  GroupSnapshot MakeSnapshot(absl::Time now) const;
  void TellProbe(const GroupSnapshot& snapshot);
  absl::Time NextWake() const;

  void Handle(SubmitEvent event);
  void Handle(AdoptEvent event);
  void Handle(CancelEvent event);
  void Handle(FinishChoiceEvent event);
  void Handle(AbortEvent event);
  void Handle(ProgressEvent event);
  void Handle(AttachedEvent event);
  void Handle(StepDoneEvent event);
  void Handle(LostEvent event);
  void Handle(PeerReadyEvent event);
  void GiveUpEpoch(absl::Status reason);

  const size_t group_idx_;
  const LoopOptions options_;
  const std::unique_ptr<GroupClient> client_;
  LoopNeighbours* const neighbours_;
  RequestBoard* const board_;
  SchedulerProbe* const probe_;
  Clock* const clock_;
  const std::string name_;  // the workers' addresses, for people

  // Of the round that is under way.
  Scheduler scheduler_;
  Delivery delivery_;
  StepWatch watch_;
  std::shared_ptr<const WorkerFacts> facts_;
  bool is_abandoned_ = false;  // Abandon was called, OnLost has not come
  bool has_produced_token_ = false;
  bool owes_read_ = false;  // a result was heard and the next not yet asked for
  std::string not_ready_reason_ = "not connected yet";
  absl::Time unreached_since_ = absl::InfinitePast();  // InfinitePast: it is reached
  std::string unreached_reason_;                       // the log knows of
  uint64_t num_preemptions_told_ = 0;

  std::atomic<bool> is_ready_ = false;
  std::atomic<uint32_t> num_slots_ = 0;
  mutable Mutex published_mutex_;
  GroupSnapshot snapshot_ MILI_GUARDED_BY(published_mutex_);
  std::vector<RequestKey> waiting_ MILI_GUARDED_BY(published_mutex_);

  Actor<RouterEvent> events_;
};

}  // namespace mili::router

// PuppetGroup: a GroupClient with a PuppetWorker behind it on a thread of its own, as the gRPC
// client has one. Tests kill it, revive it and hold its results back.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "common/base/mailbox.h"
#include "common/base/mutex.h"
#include "router/dispatch/group_client.h"
#include "tests/support/puppet_worker.h"

namespace mili::router::testing {

class PuppetGroup final : public GroupClient {
 public:
  // Attaches at Start unless `is_dead`.
  explicit PuppetGroup(WorkerFacts facts, bool is_dead = false, std::string address = "puppet:1");
  ~PuppetGroup() override;

  void Start(GroupListener* listener) override;
  void Send(StepPlan plan) override;
  // Its results come at once; asking without having heard one is a broken rule.
  void ReadOn() override;
  void Abandon(absl::Status reason) override;
  void Stop() override;
  std::vector<std::string> addresses() const override { return {address_}; }

  // Thread-safe; each takes effect in order with the plans sent.
  void Kill();                     // the epoch is lost with all results held back
  void Revive();                   // attaches anew
  void Revive(WorkerFacts facts);  // as another worker
  void HoldResults();
  void ReleaseResults();

  // Rules that plans broke.
  std::vector<std::string> complaints() const;

 private:
  struct Killed {
    absl::Status reason;
    bool attaches_again = false;
  };
  struct Revived {
    std::optional<WorkerFacts> facts;
  };
  struct Held {
    bool holds = false;
  };
  struct Stopped {};
  using Command = std::variant<StepPlan, Killed, Revived, Held, Stopped>;

  void Run();
  void Attach();
  void Tell(StepResult result);
  void Do(StepPlan plan);
  void Do(Killed command);
  void Do(Revived command);
  void Do(Held command);
  void Do(Stopped) { is_stopped_ = true; }

  const std::string address_;
  const bool is_dead_at_start_;
  GroupListener* listener_ = nullptr;
  std::thread thread_;
  Mailbox<Command> commands_;

  // The thread's own.
  WorkerFacts facts_;
  Epoch epoch_;
  std::unique_ptr<mili::testing::PuppetWorker> worker_;  // null: no epoch is open
  std::deque<StepResult> held_;
  bool holds_ = false;
  bool is_stopped_ = false;

  mutable Mutex mutex_;
  std::vector<std::string> complaints_ MILI_GUARDED_BY(mutex_);
  uint64_t num_told_ MILI_GUARDED_BY(mutex_) = 0;   // results
  uint64_t num_asked_ MILI_GUARDED_BY(mutex_) = 0;  // for the one after them
};

}  // namespace mili::router::testing

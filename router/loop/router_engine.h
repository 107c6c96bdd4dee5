// RouterEngine: Engine over one scheduler loop a group. Owns admission, placement, the loops and
// their group clients. Thread-safe; Start once, then Stop once, then destroy.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/time/time.h>

#include "common/base/clock.h"
#include "router/dispatch/group_client.h"
#include "router/loop/engine.h"
#include "router/loop/probe.h"
#include "router/sched/options.h"

namespace mili::router {

struct EngineOptions {
  SchedulerOptions scheduler;
  // Sequences (a request of n choices counts n) behind the door beyond those that the workers'
  // slots can hold.
  uint32_t max_num_queued_reqs = 1024;
  // Prompt tokens of all requests behind the door; text counts a token for every four bytes until
  // it is tokenised. 0: no limit.
  uint64_t max_num_queued_tokens = 0;
  // A step unanswered for this long makes the group unhealthy (is_step_overdue); 15 s later its
  // epoch is abandoned and its sequences restart.
  absl::Duration step_timeout = absl::Seconds(30);
  // One line of news for people (attached, lost, abandoned), from a loop's round. May be null.
  std::function<void(const std::string& line)> log;
};

class RouterEngine final : public Engine {
 public:
  // One group a client, all serving the same model. `probe` (may be null) and `clock` outlive the
  // engine.
  RouterEngine(EngineOptions options, std::vector<std::unique_ptr<GroupClient>> clients,
               SchedulerProbe* probe, Clock* clock);
  ~RouterEngine() override;

  // Starts loops and clients.
  void Start();
  // Fails what is left with UNAVAILABLE, joins every thread. Sinks hear nothing afterwards.
  void Stop();

  Admission Admit(uint64_t num_bytes, uint32_t num_choices) override;
  absl::Status Submit(RequestPtr request, std::shared_ptr<TokenSink> sink) override;
  void Cancel(RequestKey key, absl::Status reason) override;
  void FinishChoice(RequestKey key, uint32_t choice_idx) override;
  uint32_t Abort(const std::vector<std::string>& request_ids) override;
  std::optional<RequestStatus> Find(const std::string& request_id) const override;
  std::vector<GroupSnapshot> Groups() const override;
  uint32_t num_active_requests() const override;
  void Drain(std::function<void()> on_drained) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mili::router

// SchedulerMetrics: what the scheduler loops tell, as Prometheus metrics and as changes of state.
// Thread-safe and cheap: it runs on the loops' threads.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/base/mutex.h"
#include "common/obs/metrics.h"
#include "router/loop/probe.h"

namespace mili::router {

class SchedulerMetrics final : public SchedulerProbe {
 public:
  // `on_change` is called when a group became ready or not, or produced its first token of an
  // epoch. `registry` outlives the object.
  SchedulerMetrics(MetricsRegistry* registry,
                   std::function<void(size_t group_idx, const GroupSnapshot&)> on_change);
  ~SchedulerMetrics() override;

  // Registers every metric, at 0, under label model_name. Once; nothing is counted before.
  void Register(const std::string& model_name);
  // While muted (warm-up) nothing of requests is counted.
  void Mute(bool muted) { muted_ = muted; }

  void OnSnapshot(size_t group_idx, const GroupSnapshot& snapshot) override;
  void OnStepSent(uint32_t num_tokens) override;
  void OnPreempted(uint32_t num_sequences) override;
  void OnStarted(uint32_t num_prompt_tokens, absl::Duration queued) override;
  void OnFirstToken(absl::Duration since_arrival) override;
  void OnNextToken(absl::Duration since_last) override;
  void OnGenerated(uint32_t num_tokens) override;
  void OnFinished(const FinishedRequest& facts) override;

 private:
  struct Metrics;
  struct Group;
  // Null before Register and while muted.
  Metrics* Counting() const;

  MetricsRegistry* const registry_;
  const std::function<void(size_t, const GroupSnapshot&)> on_change_;
  std::atomic<bool> muted_ = false;
  std::unique_ptr<Metrics> owned_;
  std::atomic<Metrics*> metrics_ = nullptr;  // owned_, once it is complete
  Mutex mutex_;
  std::map<size_t, Group> groups_ MILI_GUARDED_BY(mutex_);
};

}  // namespace mili::router

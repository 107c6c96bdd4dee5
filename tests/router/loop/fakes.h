// Fakes around a RouterEngine: a clock moved by hand, a probe that waits for snapshots, a sink that
// waits for finishes, and requests for the puppet.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "router/loop/probe.h"
#include "router/loop/token_sink.h"
#include "tests/support/puppet_worker.h"

namespace mili::router::testing {

class ManualClock final : public Clock {
 public:
  absl::Time Now() override {
    MutexLock lock(mutex_);
    return now_;
  }
  void Advance(absl::Duration by) {
    MutexLock lock(mutex_);
    now_ += by;
  }

 private:
  Mutex mutex_;
  absl::Time now_ MILI_GUARDED_BY(mutex_) = absl::UnixEpoch() + absl::Hours(1);
};

// Counts what it hears.
class RecordingProbe final : public SchedulerProbe {
 public:
  struct Counts {
    uint32_t num_started = 0;
    uint32_t num_prompt_tokens = 0;
    uint32_t num_first_tokens = 0;
    uint32_t num_next_tokens = 0;
    uint32_t num_generated = 0;
    uint32_t num_preempted = 0;
    uint64_t num_step_tokens = 0;
    std::map<std::string, uint32_t> finished;
  };

  void OnSnapshot(size_t group_idx, const GroupSnapshot& snapshot) override {
    MutexLock lock(mutex_);
    snapshots_[group_idx] = snapshot;
    changed_.NotifyAll();
  }
  void OnStepSent(uint32_t num_tokens) override {
    MutexLock lock(mutex_);
    counts_.num_step_tokens += num_tokens;
  }
  void OnPreempted(uint32_t num_sequences) override {
    MutexLock lock(mutex_);
    counts_.num_preempted += num_sequences;
  }
  void OnStarted(uint32_t num_prompt_tokens, absl::Duration) override {
    MutexLock lock(mutex_);
    ++counts_.num_started;
    counts_.num_prompt_tokens += num_prompt_tokens;
  }
  void OnFirstToken(absl::Duration) override {
    MutexLock lock(mutex_);
    ++counts_.num_first_tokens;
  }
  void OnNextToken(absl::Duration) override {
    MutexLock lock(mutex_);
    ++counts_.num_next_tokens;
  }
  void OnGenerated(uint32_t num_tokens) override {
    MutexLock lock(mutex_);
    counts_.num_generated += num_tokens;
  }
  void OnFinished(const FinishedRequest& facts) override {
    MutexLock lock(mutex_);
    ++counts_.finished[facts.finished_reason];
  }

  Counts counts() {
    MutexLock lock(mutex_);
    return counts_;
  }
  // Waits until the group's snapshot is as `wanted` says.
  void WaitFor(size_t group_idx, const std::function<bool(const GroupSnapshot&)>& wanted) {
    MutexLock lock(mutex_);
    while (snapshots_.count(group_idx) == 0 || !wanted(snapshots_[group_idx])) {
      changed_.Wait(mutex_);
    }
  }
  void WaitUntilReady(size_t group_idx = 0) {
    WaitFor(group_idx, [](const GroupSnapshot& s) { return s.is_ready; });
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<size_t, GroupSnapshot> snapshots_ MILI_GUARDED_BY(mutex_);
  Counts counts_ MILI_GUARDED_BY(mutex_);
};

// What one choice heard.
struct Heard {
  std::vector<TokenId> tokens;
  std::vector<Finish> finishes;
};

class RecordingSink final : public TokenSink {
 public:
  void OnTokens(std::vector<TokenEvent> events) override {
    MutexLock lock(mutex_);
    for (TokenEvent& event : events) {
      Heard& heard = heard_[{event.request, event.choice_idx}];
      for (const SampledToken& token : event.tokens) heard.tokens.push_back(token.id);
      if (event.finish.has_value()) heard.finishes.push_back(*event.finish);
    }
    changed_.NotifyAll();
  }

  Heard WaitForFinish(RequestKey key, uint32_t choice_idx = 0) {
    MutexLock lock(mutex_);
    while (heard_[{key, choice_idx}].finishes.empty()) changed_.Wait(mutex_);
    return heard_[{key, choice_idx}];
  }
  void WaitForTokens(RequestKey key, size_t num_tokens) {
    MutexLock lock(mutex_);
    while (heard_[{key, 0}].tokens.size() < num_tokens) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<std::pair<RequestKey, uint32_t>, Heard> heard_ MILI_GUARDED_BY(mutex_);
};

// A request for the puppet; its stream is a function of `key`.
inline std::shared_ptr<Request> MakeRequest(uint64_t key, uint32_t num_prompt, uint32_t max_tokens,
                                            absl::Time arrival) {
  auto request = std::make_shared<Request>();
  request->key = RequestKey(key);
  request->request_id = "request-" + std::to_string(key);
  for (uint32_t i = 0; i < num_prompt; ++i) {
    request->prompt_token_ids.push_back(static_cast<TokenId>((key * 31 + i * 7) % 100));
  }
  request->max_tokens = max_tokens;
  request->sampling.seed = key;
  request->arrival = arrival;
  return request;
}

}  // namespace mili::router::testing

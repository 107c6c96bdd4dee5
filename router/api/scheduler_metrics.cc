#include "router/api/scheduler_metrics.h"

#include <optional>
#include <utility>

namespace mili::router {

struct SchedulerMetrics::Metrics {
  Metrics(MetricsRegistry& r, const MetricsRegistry::Labels& labels)
      : running(r.AddGauge("mili_num_requests_running", "Sequences that hold a slot.", labels)),
        waiting(r.AddGauge("mili_num_requests_waiting", "Sequences in the queue.", labels)),
        kv_usage(
            r.AddGauge("mili_kv_cache_usage_perc", "Share of KV pages in use, 0 to 1.", labels)),
        first_token(r.AddHistogram("mili_time_to_first_token_seconds",
                                   "From a request's arrival to its first token.",
                                   Buckets::kTimeToFirstToken, labels)),
        next_token(r.AddHistogram("mili_inter_token_latency_seconds",
                                  "Between two tokens of a choice.", Buckets::kInterTokenLatency,
                                  labels)),
        e2e(r.AddHistogram("mili_e2e_request_latency_seconds",
                           "From a request's arrival to its terminal status.",
                           Buckets::kRequestLatency, labels)),
        queued(r.AddHistogram("mili_request_queue_time_seconds",
                              "From a request's arrival to its first slot.",
                              Buckets::kRequestLatency, labels)),
        iteration_tokens(r.AddHistogram("mili_iteration_tokens_total", "Tokens computed by a step.",
                                        Buckets::kTokensPerStep, labels)),
        prompt_tokens(
            r.AddCounter("mili_prompt_tokens_total", "Prompt tokens of started requests.", labels)),
        generation_tokens(r.AddCounter("mili_generation_tokens_total", "Tokens produced.", labels)),
        // There is no prefix cache yet: true zeros.
        prefix_queries(r.AddCounter("mili_prefix_cache_queries_total",
                                    "Prompt tokens looked up in the prefix cache.", labels)),
        prefix_hits(r.AddCounter("mili_prefix_cache_hits_total",
                                 "Prompt tokens found in the prefix cache.", labels)),
        preemptions(r.AddCounter("mili_num_preemptions_total",
                                 "Sequences that lost their pages to older ones.", labels)) {
    for (const char* reason : {"stop", "length", "abort", "error"}) {
      MetricsRegistry::Labels with_reason = labels;
      with_reason["finished_reason"] = reason;
      finished[reason] = &r.AddCounter("mili_request_success_total",
                                       "Requests that ended, by the reason.", with_reason);
    }
  }

  prometheus::Gauge& running;
  prometheus::Gauge& waiting;
  prometheus::Gauge& kv_usage;
  prometheus::Histogram& first_token;
  prometheus::Histogram& next_token;
  prometheus::Histogram& e2e;
  prometheus::Histogram& queued;
  prometheus::Histogram& iteration_tokens;
  prometheus::Counter& prompt_tokens;
  prometheus::Counter& generation_tokens;
  prometheus::Counter& prefix_queries;
  prometheus::Counter& prefix_hits;
  prometheus::Counter& preemptions;
  std::map<std::string, prometheus::Counter*> finished;
};

struct SchedulerMetrics::Group {
  bool is_ready = false;
  bool has_produced_token = false;
  Epoch epoch;
  uint32_t num_running = 0;
  uint32_t num_waiting = 0;
  uint32_t num_pages_total = 0;
  uint32_t num_pages_leased = 0;
};

SchedulerMetrics::SchedulerMetrics(MetricsRegistry* registry,
                                   std::function<void(size_t, const GroupSnapshot&)> on_change)
    : registry_(registry), on_change_(std::move(on_change)) {}

SchedulerMetrics::~SchedulerMetrics() = default;

void SchedulerMetrics::Register(const std::string& model_name) {
  if (owned_ != nullptr) return;
  owned_ =
      std::make_unique<Metrics>(*registry_, MetricsRegistry::Labels{{"model_name", model_name}});
  metrics_ = owned_.get();
}

SchedulerMetrics::Metrics* SchedulerMetrics::Counting() const {
  return muted_ ? nullptr : metrics_.load();
}

void SchedulerMetrics::OnSnapshot(size_t group_idx, const GroupSnapshot& snapshot) {
  bool changed = false;
  {
    MutexLock lock(mutex_);
    Group& group = groups_[group_idx];
    changed = group.is_ready != snapshot.is_ready || group.epoch != snapshot.epoch ||
              group.has_produced_token != snapshot.has_produced_token;
    group = {snapshot.is_ready,        snapshot.has_produced_token, snapshot.epoch,
             snapshot.num_running,     snapshot.num_waiting,        snapshot.num_pages_total,
             snapshot.num_pages_leased};
    if (Metrics* m = metrics_.load()) {
      Group sum;
      for (const auto& [idx, g] : groups_) {
        sum.num_running += g.num_running;
        sum.num_waiting += g.num_waiting;
        sum.num_pages_total += g.num_pages_total;
        sum.num_pages_leased += g.num_pages_leased;
      }
      m->running.Set(sum.num_running);
      m->waiting.Set(sum.num_waiting);
      m->kv_usage.Set(sum.num_pages_total == 0
                          ? 0
                          : static_cast<double>(sum.num_pages_leased) / sum.num_pages_total);
    }
  }
  if (changed && on_change_) on_change_(group_idx, snapshot);
}

void SchedulerMetrics::OnStepSent(uint32_t num_tokens) {
  if (Metrics* m = Counting()) m->iteration_tokens.Observe(num_tokens);
}

void SchedulerMetrics::OnPreempted(uint32_t num_sequences) {
  if (Metrics* m = Counting()) m->preemptions.Increment(num_sequences);
}

void SchedulerMetrics::OnStarted(uint32_t num_prompt_tokens, absl::Duration queued) {
  Metrics* m = Counting();
  if (m == nullptr) return;
  m->prompt_tokens.Increment(num_prompt_tokens);
  m->queued.Observe(absl::ToDoubleSeconds(queued));
}

void SchedulerMetrics::OnFirstToken(absl::Duration since_arrival) {
  if (Metrics* m = Counting()) m->first_token.Observe(absl::ToDoubleSeconds(since_arrival));
}

void SchedulerMetrics::OnNextToken(absl::Duration since_last) {
  if (Metrics* m = Counting()) m->next_token.Observe(absl::ToDoubleSeconds(since_last));
}

void SchedulerMetrics::OnGenerated(uint32_t num_tokens) {
  if (Metrics* m = Counting()) m->generation_tokens.Increment(num_tokens);
}

void SchedulerMetrics::OnFinished(const FinishedRequest& facts) {
  Metrics* m = Counting();
  if (m == nullptr) return;
  const auto counter = m->finished.find(facts.finished_reason);
  if (counter != m->finished.end()) counter->second->Increment();
  m->e2e.Observe(absl::ToDoubleSeconds(facts.e2e));
}

}  // namespace mili::router

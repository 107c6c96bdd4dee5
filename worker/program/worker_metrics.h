// WorkerMetrics: what a worker tells Prometheus, all of it registered at start. Thread-safe.
#pragma once

#include <string>

#include "common/core/worker_facts.h"
#include "common/obs/metrics.h"
#include "worker/engine/engine.h"

namespace mili::worker {

class WorkerMetrics {
 public:
  WorkerMetrics();
  void OnLoaded(const WorkerFacts& facts);
  void OnStep(const StepStats& stats);
  std::string Render() const { return registry_.Render(); }

 private:
  MetricsRegistry registry_;
  prometheus::Histogram& step_duration_;
  prometheus::Histogram& step_tokens_;
  prometheus::Counter& idle_;
  prometheus::Gauge& weights_;
  prometheus::Gauge& kv_;
  prometheus::Gauge& workspace_;
  prometheus::Gauge& load_;
};

}  // namespace mili::worker

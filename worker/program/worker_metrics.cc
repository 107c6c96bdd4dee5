#include "worker/program/worker_metrics.h"

namespace mili::worker {
namespace {

constexpr char kMemoryName[] = "mili_gpu_memory_bytes";
constexpr char kMemoryHelp[] = "Planned memory of the device that computes, by kind";

}  // namespace

WorkerMetrics::WorkerMetrics()
    : step_duration_(registry_.AddHistogram("mili_step_duration_seconds",
                                            "Computation of one step, from its start to its end",
                                            Buckets::kStepDuration)),
      step_tokens_(registry_.AddHistogram("mili_iteration_tokens_total",
                                          "Tokens computed by one step", Buckets::kTokensPerStep)),
      idle_(registry_.AddCounter("mili_gpu_idle_seconds_total",
                                 "Time for which the device that computes had no step")),
      weights_(registry_.AddGauge(kMemoryName, kMemoryHelp, {{"kind", "weights"}})),
      kv_(registry_.AddGauge(kMemoryName, kMemoryHelp, {{"kind", "kv"}})),
      workspace_(registry_.AddGauge(kMemoryName, kMemoryHelp, {{"kind", "workspace"}})),
      load_(registry_.AddGauge("mili_weight_load_seconds", "How long loading the model took")) {
  // Stays 0 without a second rank; present all the same, so that alerts can be written on it.
  registry_.AddCounter("mili_nccl_errors_total", "Failed collectives between ranks of a group");
}

void WorkerMetrics::OnLoaded(const WorkerFacts& facts) {
  weights_.Set(static_cast<double>(facts.weights_bytes));
  kv_.Set(static_cast<double>(facts.kv_bytes));
  workspace_.Set(static_cast<double>(facts.workspace_bytes));
  load_.Set(absl::ToDoubleSeconds(facts.load));
}

void WorkerMetrics::OnStep(const StepStats& stats) {
  step_duration_.Observe(absl::ToDoubleSeconds(stats.compute));
  step_tokens_.Observe(stats.num_tokens);
  const double idle = absl::ToDoubleSeconds(stats.idle);
  if (idle > 0) idle_.Increment(idle);
}

}  // namespace mili::worker

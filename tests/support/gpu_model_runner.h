// GpuModelRunner: a model on the GPU for tests: logits of every prompt token, or tokens through the
// engine. The counterpart of ModelRunner. MILI_TEST_NO_EARLY_STARTS in the environment makes every
// kernel wait for the one before it, without which compute-sanitizer's racecheck fails.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "common/base/status_macros.h"
#include "common/core/gpu_memory_plan.h"
#include "kernels/reference/kernels.h"
#include "tests/support/engine_driver.h"
#include "tests/support/prompt_chunks.h"
#include "worker/device/gpu.h"
#include "worker/engine/cuda/cuda_runner.h"

namespace mili::worker {

class GpuModelRunner {
 public:
  static absl::StatusOr<std::unique_ptr<GpuModelRunner>> Load(const ModelSource& source,
                                                              const Gpu& gpu,
                                                              GpuMemoryLimits limits,
                                                              bool is_fp8 = false,
                                                              LinearTuningOptions tuning = {}) {
    limits.total_bytes = gpu.total_bytes;
    limits.free_bytes = gpu.free_bytes;
    MILI_ASSIGN_OR_RETURN(const MemoryPlan plan,
                          PlanGpuMemory(source.config(), CudaWeights::BytesNeeded(source, is_fp8),
                                        CudaWeights::DTypeFor(source), limits));
    MILI_ASSIGN_OR_RETURN(CudaWeights weights,
                          CudaWeights::Load(source, {.is_fp8 = is_fp8,
                                                     .num_threads = 4,
                                                     .kernels = &kernels::ReferenceKernels(),
                                                     .progress = nullptr}));
    MILI_ASSIGN_OR_RETURN(
        std::unique_ptr<CudaModel> model,
        CudaModel::Create({.config = source.config(),
                           .plan = plan,
                           .num_sms = gpu.num_sms,
                           .compute_capability = gpu.compute_capability,
                           .tuning = std::move(tuning),
                           .has_early_starts = std::getenv("MILI_TEST_NO_EARLY_STARTS") == nullptr},
                          std::move(weights)));
    auto runner = std::unique_ptr<GpuModelRunner>(new GpuModelRunner);
    runner->limits_ = SlotTable::LimitsOf(plan, source.config().vocab_size);
    runner->model_ = model.get();
    MILI_ASSIGN_OR_RETURN(runner->runner_, CudaRunner::Create(std::move(model)));
    return runner;
  }

  // Logits of every token, [prompt.size(), vocab_size], computed in chunks of `chunk` tokens, at
  // most max_num_seqs.
  absl::StatusOr<std::vector<float>> PromptLogits(const std::vector<TokenId>& prompt,
                                                  uint32_t chunk) {
    SlotTable slots(limits_);
    const std::atomic<uint64_t> live_epoch{0};
    std::vector<float> all(prompt.size() * limits_.vocab_size);
    const uint32_t size = static_cast<uint32_t>(prompt.size());
    for (uint32_t first = 0; first < size; first += chunk) {
      const uint32_t count = std::min(chunk, size - first);
      Step step;
      StepPlan plan = PlanOfChunk(prompt, first, chunk, limits_);
      // Who asks for greedy tokens alone may get no logits.
      for (SeqStart& start : plan.start) start.sampling.num_logprobs = 0;
      MILI_RETURN_IF_ERROR(slots.Apply(std::move(plan), &step.batch));
      step.batch.samples.clear();
      for (uint32_t i = 0; i < count; ++i) step.batch.samples.push_back({0, i, first + i + 1});
      runner_->Launch(step, live_epoch);
      MILI_RETURN_IF_ERROR(runner_->Finish(step));
      MILI_RETURN_IF_ERROR(model_->stream().CopyToHost(
          all.data() + uint64_t{first} * limits_.vocab_size, model_->workspace().logits,
          uint64_t{count} * limits_.vocab_size * sizeof(float)));
      MILI_RETURN_IF_ERROR(model_->stream().Synchronize());
    }
    return all;
  }

  // Through a fresh engine.
  absl::StatusOr<std::vector<DriverResult>> Generate(const std::vector<DriverRequest>& requests,
                                                     EngineDriver::Options options = {}) {
    Engine engine({.limits = limits_, .on_step = {}}, std::make_unique<Borrowed>(runner_.get()));
    return EngineDriver(&engine, limits_, options).Run(requests);
  }

  // Captures every step there can be; how many those are.
  size_t CaptureAll() {
    while (runner_->PrepareAhead()) {
    }
    return runner_->num_graphs();
  }

  const SlotTable::Limits& limits() const { return limits_; }
  CudaModel& model() { return *model_; }

 private:
  // What an engine may own.
  class Borrowed final : public StepRunner {
   public:
    explicit Borrowed(StepRunner* runner) : runner_(runner) {}
    void Launch(Step& step, const std::atomic<uint64_t>& live_epoch) override {
      runner_->Launch(step, live_epoch);
    }
    absl::Status Finish(Step& step) override { return runner_->Finish(step); }

   private:
    StepRunner* const runner_;
  };

  SlotTable::Limits limits_;
  CudaModel* model_ = nullptr;
  std::unique_ptr<CudaRunner> runner_;
};

}  // namespace mili::worker

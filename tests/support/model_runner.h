// ModelRunner: a model from disk with the kernels of one table, for golden tests: logits of every
// prompt token, or tokens through the engine.
#pragma once

#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "common/base/status_macros.h"
#include "common/formats/model_source.h"
#include "kernels/params.h"
#include "tests/support/engine_driver.h"
#include "tests/support/prompt_chunks.h"
#include "worker/device/cpu_pool.h"
#include "worker/model/model_backend.h"

namespace mili::worker {

class ModelRunner {
 public:
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Load(const std::string& path,
                                                           const kernels::CpuKernels& kernels,
                                                           int num_threads,
                                                           const MemoryLimits& wanted) {
    MILI_ASSIGN_OR_RETURN(const std::unique_ptr<ModelSource> source, ModelSource::Open(path));
    return Load(*source, kernels, num_threads, wanted);
  }
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Load(const ModelSource& source,
                                                           const kernels::CpuKernels& kernels,
                                                           int num_threads,
                                                           const MemoryLimits& wanted) {
    auto runner = std::unique_ptr<ModelRunner>(new ModelRunner(num_threads));
    MemoryLimits limits = wanted;
    limits.num_threads = static_cast<uint32_t>(num_threads);
    MILI_ASSIGN_OR_RETURN(const MemoryPlan plan,
                          PlanMemory(source.config(), Weights::BytesNeeded(source, &kernels),
                                     kernels.kv_dtype, limits));
    MILI_ASSIGN_OR_RETURN(Weights weights, Weights::Load(source, {.num_threads = 2,
                                                                  .kernels = &kernels,
                                                                  .progress = nullptr,
                                                                  .cancelled = nullptr}));
    runner->limits_ = SlotTable::LimitsOf(plan, source.config().vocab_size);
    MILI_ASSIGN_OR_RETURN(runner->backend_,
                          ModelBackend::Create({.config = source.config(),
                                                .plan = plan,
                                                .compute = {&kernels, &runner->pool_},
                                                .num_valid_tokens = 0},
                                               std::move(weights)));
    runner->vocab_size_ = source.config().vocab_size;
    return runner;
  }

  // Logits of every token, [prompt.size(), vocab_size], computed in chunks of `chunk` tokens.
  absl::StatusOr<std::vector<float>> PromptLogits(const std::vector<TokenId>& prompt,
                                                  uint32_t chunk) {
    SlotTable slots(limits_);
    StepBatch batch;
    batch.Reserve(limits_.num_slots, limits_.max_num_batched_tokens, limits_.max_pages_per_seq());
    std::vector<float> all;
    const uint32_t size = static_cast<uint32_t>(prompt.size());
    for (uint32_t first = 0; first < size; first += chunk) {
      const uint32_t count = std::min(chunk, size - first);
      MILI_RETURN_IF_ERROR(slots.Apply(PlanOfChunk(prompt, first, chunk, limits_), &batch));
      std::vector<uint32_t> outputs(count);
      std::iota(outputs.begin(), outputs.end(), 0);
      MILI_RETURN_IF_ERROR(backend_->forward().Run(batch, outputs));
      for (uint32_t i = 0; i < count; ++i) {
        float* logits = nullptr;
        MILI_RETURN_IF_ERROR(backend_->forward().Logits({&i, 1}, &logits));
        all.insert(all.end(), logits, logits + vocab_size_);
      }
    }
    return all;
  }

  // Through a fresh engine.
  absl::StatusOr<std::vector<DriverResult>> Generate(const std::vector<DriverRequest>& requests,
                                                     EngineDriver::Options options = {}) {
    Engine engine({.limits = limits_, .on_step = {}}, backend_.get());
    return EngineDriver(&engine, limits_, options).Run(requests);
  }

  uint32_t vocab_size() const { return vocab_size_; }
  const SlotTable::Limits& limits() const { return limits_; }

 private:
  explicit ModelRunner(int num_threads) : pool_(num_threads) {}

  CpuPool pool_;
  SlotTable::Limits limits_;
  std::unique_ptr<ModelBackend> backend_;
  uint32_t vocab_size_ = 0;
};

}  // namespace mili::worker

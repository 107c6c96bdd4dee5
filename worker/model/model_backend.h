// ModelBackend: a loaded model that executes steps: forward pass, head tile by tile, sampling row
// by row. Owns KV pages and workspace; lives on the stream's executor thread after construction.
#pragma once

#include <memory>
#include <vector>

#include <absl/status/statusor.h>

#include "common/core/memory_plan.h"
#include "common/core/model_config.h"
#include "worker/model/backend.h"
#include "worker/model/forward.h"

namespace mili::worker {

class ModelBackend final : public Backend {
 public:
  struct Options {
    ModelConfig config;
    MemoryPlan plan;
    Compute compute;
    // Ids the tokenizer knows; the padding above is never sampled. 0: all of the vocabulary.
    uint32_t num_valid_tokens = 0;
  };
  // Allocates all that the plan names beside the weights.
  static absl::StatusOr<std::unique_ptr<ModelBackend>> Create(Options options, Weights weights);

  absl::Status Execute(const StepBatch& batch, std::span<const SampleTask> samples,
                       std::span<TokenOutcome> sampled, std::span<TokenOutcome> scored) override;

  // For tests: logits of the batch of the last Execute.
  Forward& forward() { return *forward_; }

 private:
  // One row of a head tile: to sample or to score.
  struct HeadRow {
    const SampleTask* sample = nullptr;
    const ScoreRow* score = nullptr;
    TokenOutcome* outcome = nullptr;
    uint32_t token_idx = 0;
  };

  ModelBackend(Options options, Weights weights, KvArena kv, Workspace workspace);
  absl::Status RunTile(std::span<const HeadRow> rows, std::span<const uint32_t> token_idxs);
  absl::Status SampleOne(const HeadRow& row, float* logits, int thread_idx);
  absl::Status ScoreOne(const HeadRow& row, const float* logits, int thread_idx);

  const Options options_;
  const Weights weights_;
  const KvArena kv_;
  const Workspace workspace_;
  std::unique_ptr<Forward> forward_;
  std::vector<HeadRow> rows_;
  std::vector<uint32_t> output_idxs_;       // their tokens
  std::vector<kernels::TokenLogprob> top_;  // [threads, kMaxTop]
};

}  // namespace mili::worker

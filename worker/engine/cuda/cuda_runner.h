// CudaRunner: steps on a GPU. Launch packs a step, copies it over and enqueues it, as a captured
// graph where it is one of decodes; Finish waits for its event and reads what was sampled from
// pinned memory. Sampled tokens stay on the device as the next step's input.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include <absl/status/statusor.h>

#include "worker/engine/cuda/slot_sampling.h"
#include "worker/engine/cuda/step_packer.h"
#include "worker/engine/step_runner.h"
#include "worker/model/cuda/cuda_model.h"

namespace mili::worker {

class CudaRunner final : public StepRunner {
 public:
  // Runs and captures the smallest steps; the others are left to PrepareAhead.
  static absl::StatusOr<std::unique_ptr<CudaRunner>> Create(std::unique_ptr<CudaModel> model);
  // Every step launched was finished.
  ~CudaRunner() override = default;

  void Launch(Step& step, const std::atomic<uint64_t>& live_epoch) override;
  bool PrepareAhead() override;
  absl::Status Finish(Step& step) override;
  // Steps captured so far. Engine thread.
  size_t num_graphs() const;

 private:
  // One of the kNumStepBatches: what it stages and where its answer arrives.
  struct Place {
    PinnedMemory staging;
    PinnedMemory sampled;  // SampledRow [max_num_seqs], written by the device itself
    PinnedMemory scored;   // SampledRow [max_num_batched_tokens]
    PinnedMemory top;  // SampledLogprob [kMaxStepTopLogprobs], of sampled rows, then scored ones
    CudaEvent is_copied, start;
    // Of the step in it.
    absl::Status launched;
    std::vector<std::pair<SlotId, absl::Status>> failures;  // known before anything is computed
    std::vector<int32_t> num_top;                           // of each sampled row, -1: no logprobs
    int32_t sample_top = 0;                                 // entries of top for each sampled row
    int32_t score_top = 0;                                  // and for each scored one
    bool wants_top = false;                                 // any sampled row reads its entries
  };
  struct Captured {
    CudaGraph graph;
    bool was_run = false;
    bool is_refused = false;  // no memory for it: such steps are launched kernel by kernel
  };

  static gpu::k::SampledRow* SampledOf(const Place& place) {
    return reinterpret_cast<gpu::k::SampledRow*>(place.sampled.data());
  }

  CudaRunner(std::unique_ptr<CudaModel> model, SlotSampler sampler);
  absl::Status Allocate();
  absl::Status RunSmallSizes();

  absl::Status LaunchStep(const StepBatch& batch, uint32_t index);
  // Makes the records of the slots that get a new sequence.
  absl::Status ResetSlots(const StepBatch& batch, uint32_t index);
  // Decides how many likeliest tokens the step reports and whether there is room for them.
  void PlanTop(const StepBatch& batch, Place& place);
  absl::Status Compute(const PackedStep& packed, Place& place);
  absl::Status CopyResults(const PackedStep& packed, Place& place);
  // The graph of a padded step, captured at its second use at the latest. Null: run it eagerly.
  const CudaGraph* GraphOf(const CudaStepShape& shape);
  void Capture(const CudaStepShape& shape, Captured& captured);

  absl::Status FillTimes(Step& step);
  void FillResult(Step& step, const Place& place);

  std::unique_ptr<CudaModel> model_;
  CudaStream copies_;
  std::array<Place, kNumStepBatches> places_;
  // Ends of steps, in turn: one more than places, so that the end of the step before the one being
  // finished still stands when all places are in flight.
  std::array<CudaEvent, kNumStepBatches + 1> ends_;

  // Engine thread only.
  StepPacker packer_;
  const std::vector<StepPadding> paddings_;  // all that steps can have
  SlotSampler sampler_;
  std::vector<SlotRecord> records_;
  std::vector<int32_t> slot_top_;  // [slots] likeliest tokens its rows report, -1: no logprobs
  std::map<CudaStepShape, Captured> captured_;
  size_t next_padding_ = 0;  // of paddings_, to be captured ahead
  uint64_t num_launched_ = 0;

  // Result thread only.
  std::vector<absl::Status> failures_;  // [slots] not OK: nothing of the sequence means anything
  uint64_t num_finished_ = 0;
};

}  // namespace mili::worker

// StepPacker: a StepBatch as the GPU takes it: one run of words that a single copy carries over,
// the recipe by which the device lays it out, and the shape of the launches. Engine thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/engine/cuda/step_padding.h"
#include "worker/model/cuda/cuda_model.h"
#include "worker/model/step_batch.h"

namespace mili::worker {

struct PackedStep {
  CudaStepShape shape;
  gpu::k::LayOutStepParams layout;
  uint64_t size_bytes = 0;
  int32_t num_samples = 0;  // head rows in use
  int32_t num_scores = 0;
  bool is_padded = false;
};

// A slot's sampling on its way to the device.
struct SlotRecord {
  SlotId slot;
  gpu::k::SlotSampling sampling;
};

class StepPacker {
 public:
  // Plan and workspace outlive this.
  StepPacker(const ModelConfig& config, const MemoryPlan& plan, const CudaWorkspace& ws);

  // The launches of every step with this padding.
  CudaStepShape ShapeOf(const StepPadding& padding) const;

  // Writes the step to `host`, which will be copied to `device`: staging memory of the workspace's
  // staging_bytes each. `padding` is none or PaddingOf(batch). `sampled`: pinned memory that gets
  // the sampled rows.
  PackedStep Pack(const StepBatch& batch, std::span<const SlotRecord> records,
                  const StepPadding& padding, std::byte* host, const std::byte* device,
                  gpu::k::SampledRow* sampled);

 private:
  // Rows of the batch in the device's order, their first tokens there.
  void OrderRows(const StepBatch& batch, const StepPadding& padding);
  void SetShape(const StepBatch& batch, const StepPadding& padding);
  int32_t TokenOnDevice(const StepBatch& batch, uint32_t row, uint32_t token_idx) const;

  // Takes `count` words of the run.
  int32_t* Take(uint64_t count);
  // The same, which the device lays out to `to`, with `pad` up to `padded_count`.
  int32_t* Segment(int32_t* to, uint64_t count, uint64_t padded_count, int32_t pad);
  const int32_t* OnDevice(const int32_t* words) const;

  void PackTokens(const StepBatch& batch);
  void PackSequences(const StepBatch& batch);
  void PackPages(const StepBatch& batch);
  void PackHead(const StepBatch& batch, gpu::k::SampledRow* sampled);
  void PackRecords(std::span<const SlotRecord> records);

  const MemoryPlan& plan_;
  const CudaWorkspace& ws_;
  const gpu::k::AttentionShape attention_;

  // Of the call.
  PackedStep packed_;
  int32_t* host_ = nullptr;
  const int32_t* device_ = nullptr;
  uint64_t used_words_ = 0;
  int32_t num_decode_ = 0;             // rows with one token, the first ones on the device
  int32_t num_before_prompts_ = 0;     // the same with the padding that lies before the others
  int32_t num_tokens_ = 0;             // of all rows and of that padding
  std::vector<uint32_t> order_;        // device row -> row of the batch, or kPaddingRow
  std::vector<int32_t> first_tokens_;  // row of the batch -> its first token on the device
};

}  // namespace mili::worker

// SlotSampler: brings to the GPU how a slot samples when it gets a new sequence: parameters,
// biases, banned ids, counts for penalties. Engine thread only.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <absl/status/statusor.h>

#include "worker/engine/cuda/step_packer.h"
#include "worker/model/cuda/cuda_model.h"
#include "worker/model/step_batch.h"

namespace mili::worker {

class SlotSampler {
 public:
  // `model` outlives it.
  static absl::StatusOr<SlotSampler> Create(CudaModel* model);

  // The record of a slot; what it points to is enqueued on the model's stream. `step_idx` tells
  // which of the kNumStepBatches steps it belongs to; that step has not been launched.
  // INVALID_ARGUMENT: more biases or banned ids than a slot has room for, the sequence must fail.
  absl::StatusOr<SlotRecord> Reset(const SlotReset& reset, uint32_t step_idx);
  // A step begins: its part of the pinned memory is free again.
  void Begin(uint32_t step_idx) { used_bytes_[step_idx] = 0; }

 private:
  explicit SlotSampler(CudaModel* model) : model_(model) {}

  // Enqueues a copy of `from`, through pinned memory where there is room.
  absl::Status Copy(void* to, const void* from, uint64_t size_bytes, uint32_t step_idx);
  absl::Status FillCounts(const SlotReset& reset, uint16_t* counts, uint32_t step_idx);

  CudaModel* model_;
  std::array<PinnedMemory, kNumStepBatches> pinned_;
  std::array<uint64_t, kNumStepBatches> used_bytes_ = {};
  std::vector<gpu::k::SlotBias> biases_;
  std::vector<int32_t> ids_;
  std::vector<uint16_t> values_;
};

}  // namespace mili::worker

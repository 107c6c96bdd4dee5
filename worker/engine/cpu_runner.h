// CpuRunner: a Backend on the CPU, run by the stream's executor thread with what the slots
// remember.
#pragma once

#include <array>
#include <vector>

#include <absl/time/time.h>

#include "common/core/memory_plan.h"
#include "worker/device/event.h"
#include "worker/device/stream.h"
#include "worker/engine/slot_memory.h"
#include "worker/engine/step_runner.h"
#include "worker/model/backend.h"

namespace mili::worker {

class CpuRunner final : public StepRunner {
 public:
  // `backend` outlives it.
  CpuRunner(Backend* backend, uint32_t num_slots);

  void Launch(Step& step, const std::atomic<uint64_t>& live_epoch) override;
  absl::Status Finish(Step& step) override;

 private:
  // On the executor thread.
  void Run(Step& step);
  void Compute(StepBatch& batch, StepResult* result);

  Backend* const backend_;
  std::array<Event, kNumStepBatches> done_;

  // Executor thread only.
  SlotMemory memory_;
  std::vector<SampleTask> tasks_;
  std::vector<SampleRow> task_rows_;
  std::vector<TokenOutcome> sampled_;
  std::vector<TokenOutcome> scored_;
  absl::Time last_end_;

  Stream stream_;  // ends first
};

}  // namespace mili::worker

// StepRunner: what computes steps behind the engine's back, in the order of Launch, on the CPU or a
// GPU. The engine thread launches, the result thread finishes; a runner never calls the engine.
#pragma once

#include <atomic>
#include <cstdint>

#include <absl/status/status.h>

#include "common/core/step_plan.h"
#include "worker/model/step_batch.h"

namespace mili::worker {

// A step from its plan to its answer. The engine has kNumStepBatches of them, used in turn.
struct Step {
  uint32_t index = 0;  // of kNumStepBatches
  StepBatch batch;
  // Set by Finish.
  StepResult result;
  bool is_computed = false;
};

class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Enqueues the step and returns without waiting for anything. A step that comes to its turn when
  // `live_epoch` is no longer its own may be left out. Engine thread.
  virtual void Launch(Step& step, const std::atomic<uint64_t>& live_epoch) = 0;
  // Uses a moment in which no step is in flight to prepare what steps to come may need, for some
  // milliseconds at most. False: nothing is left to prepare. Engine thread.
  virtual bool PrepareAhead() { return false; }
  // Waits for `step`, the oldest launched and not finished, and fills its result. Not OK: the
  // device is lost and with it this process; the cause in one line. Result thread.
  virtual absl::Status Finish(Step& step) = 0;
};

}  // namespace mili::worker

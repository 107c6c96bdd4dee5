// LoadModel: from settings to a backend that computes: opens the model, plans the memory, reads the
// weights, allocates the rest. Shared by serving and --bench.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <absl/status/statusor.h>

#include "common/core/memory_plan.h"
#include "common/core/model_config.h"
#include "common/core/tokenizer_bundle.h"
#include "common/core/worker_facts.h"
#include "kernels/params.h"
#include "worker/device/cpu_pool.h"
#include "worker/device/gpu.h"
#include "worker/engine/engine.h"
#include "worker/engine/step_runner.h"
#include "worker/model/model_backend.h"
#include "worker/program/settings.h"

namespace mili::worker {

// What computes, as asked for: a GPU, or threads and kernels of the CPU.
struct Device {
  std::optional<Gpu> gpu;
  std::unique_ptr<CpuPool> pool;                 // null with a GPU
  const kernels::CpuKernels* kernels = nullptr;  // null with a GPU
  // "cpu: 2 threads, avx512_vnni".
  std::string description;
  // Why a GPU is not used though one would have been taken; one line, empty if there is nothing to
  // say.
  std::string fallback;
};
// INVALID_ARGUMENT: more threads than this process may keep busy, or an instruction set that the
// CPU lacks. With --device cuda, why there is no GPU (gpu.h).
absl::StatusOr<Device> OpenDevice(const Settings& settings);

struct LoadedModel {
  ModelConfig config;
  MemoryPlan plan;
  std::unique_ptr<ModelBackend> backend;  // on the CPU
  std::optional<int> executor_cpu;        // of Engine::Options, on the CPU
  std::unique_ptr<StepRunner> runner;     // on a GPU
  std::optional<TokenizerBundle> tokenizer;
  // Nothing if all is well; else why the model's tokenizer cannot be used.
  absl::Status tokenizer_problem;
  WorkerFacts facts;  // all but epoch and tokenizer_digest
};
// What the caller hears while a model loads; each may be empty.
struct LoadWatch {
  std::function<void(const MemoryPlan&)> on_plan;  // before the first weight is read
  Weights::Progress progress;
  const std::atomic<bool>* cancelled = nullptr;
};
// `device` outlives the model. Errors are one line with the cause.
absl::StatusOr<LoadedModel> LoadModel(const Settings& settings, const Device& device,
                                      const LoadWatch& watch);

// The engine of a loaded model; takes its runner. `model` outlives it.
std::unique_ptr<Engine> MakeEngine(LoadedModel& model,
                                   std::function<void(const StepStats&)> on_step,
                                   std::function<void(const absl::Status&)> on_device_lost);

}  // namespace mili::worker

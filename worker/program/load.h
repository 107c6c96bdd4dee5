// LoadModel: from settings to a backend that computes: opens the model, plans the memory, reads the
// weights, allocates the rest. Shared by serving and --bench.
#pragma once

#include <atomic>
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
#include "worker/model/model_backend.h"
#include "worker/program/settings.h"

namespace mili::worker {

// Threads and kernels as asked for.
struct Device {
  std::unique_ptr<CpuPool> pool;
  const kernels::CpuKernels* kernels = nullptr;
  // "cpu: 2 threads, avx512_vnni".
  std::string description;
};
// INVALID_ARGUMENT: more threads than this process may keep busy, or an instruction set that the
// CPU lacks.
absl::StatusOr<Device> OpenDevice(const Settings& settings);

struct LoadedModel {
  ModelConfig config;
  MemoryPlan plan;
  std::unique_ptr<ModelBackend> backend;
  std::optional<TokenizerBundle> tokenizer;
  // Nothing if all is well; else why the model's tokenizer cannot be used.
  absl::Status tokenizer_problem;
  WorkerFacts facts;  // all but epoch and tokenizer_digest
};
// `device` outlives the model. Errors are one line with the cause.
absl::StatusOr<LoadedModel> LoadModel(const Settings& settings, const Device& device,
                                      const Weights::Progress& progress,
                                      const std::atomic<bool>* cancelled);

}  // namespace mili::worker

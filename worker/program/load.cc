#include "worker/program/load.h"

#include <malloc.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>

#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/base/version.h"
#include "common/core/gpu_memory_plan.h"
#include "common/formats/model_source.h"
#include "common/formats/quantized_source.h"
#include "common/text/tokenizer.h"
#include "kernels/cpu/kernels.h"
#include "kernels/reference/kernels.h"
#include "worker/device/cpu_topology.h"
#include "worker/engine/gpu_runner.h"

namespace mili::worker {
namespace {

// The element type that most weights have.
std::string WeightDType(const ModelSource& source) {
  std::map<DType, uint64_t> elements;
  for (const TensorInfo& tensor : source.tensors()) {
    elements[tensor.dtype] += tensor.num_rows() * tensor.num_cols();
  }
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  return most == elements.end() ? "" : std::string(NameOf(most->first));
}

// What both devices load with.
struct Loading {
  const LoadWatch& watch;
  // Waits for the tokenizer; ids it knows, 0 if that is not known.
  std::function<uint32_t()> num_valid_tokens;
};

// What the tokenizer tells, read while the weights load.
struct TokenizerPart {
  std::optional<TokenizerBundle> bundle;
  absl::Status problem;
  uint32_t vocab_size = 0;  // 0: not known
};

TokenizerPart ReadTokenizer(const ModelSource& source) {
  TokenizerPart part;
  absl::StatusOr<std::optional<TokenizerBundle>> bundle = source.LoadTokenizer();
  if (!bundle.ok()) {
    part.problem = bundle.status();
    return part;
  }
  part.bundle = *std::move(bundle);
  // A GGUF file lists a token for each row of the embedding, padding among them.
  if (!part.bundle || source.format() == "gguf") return part;
  const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::FromJson(part.bundle->tokenizer_json);
  if (tokenizer.ok()) {
    part.vocab_size = (*tokenizer)->vocab_size();
  } else {
    part.problem = tokenizer.status();
  }
  return part;
}

MemoryLimits LimitsOf(const Settings& settings, int num_threads) {
  MemoryLimits limits;
  limits.max_model_len = settings.max_model_len;
  if (settings.max_num_seqs != 0) limits.max_num_seqs = settings.max_num_seqs;
  if (settings.max_num_batched_tokens != 0) {
    limits.max_num_batched_tokens = settings.max_num_batched_tokens;
  }
  limits.page_size_tokens = settings.page_size;
  limits.num_threads = static_cast<uint32_t>(num_threads);
  limits.kv_cache_memory_bytes = settings.kv_cache_memory_bytes;
  limits.available_bytes = ReadAvailableMemoryBytes("");
  return limits;
}

// The same for a GPU, whose page is fixed.
GpuMemoryLimits LimitsOf(const Settings& settings, const Gpu& gpu) {
  GpuMemoryLimits limits;
  limits.max_model_len = settings.max_model_len;
  if (settings.max_num_seqs != 0) limits.max_num_seqs = settings.max_num_seqs;
  if (settings.max_num_batched_tokens != 0) {
    limits.max_num_batched_tokens = settings.max_num_batched_tokens;
  }
  limits.kv_cache_memory_bytes = settings.kv_cache_memory_bytes;
  limits.utilization = settings.gpu_memory_utilization;
  limits.total_bytes = gpu.total_bytes;
  limits.free_bytes = gpu.free_bytes;
  return limits;
}

WorkerFacts FactsOf(const Settings& settings, const Device& device, const ModelSource& source,
                    const MemoryPlan& plan) {
  const ModelConfig& config = source.config();
  WorkerFacts facts;
  facts.build = absl::StrCat(kVersion, " (", kGitRevision, ")");
  const bool is_fp8 = settings.quantization == "fp8";
  facts.model_digest = source.Digest() + (is_fp8 ? "-fp8" : "");
  facts.model_name = config.name;
  facts.model_path = settings.model;
  facts.architecture = std::string(NameOf(config.architecture));
  facts.weight_dtype = is_fp8 ? "fp8" : WeightDType(source);
  facts.kv_dtype = std::string(NameOf(plan.kv.dtype));
  facts.device = device.description;
  facts.page_size_tokens = plan.kv.page_size_tokens;
  facts.num_pages = plan.num_pages;
  facts.num_slots = plan.max_num_seqs;
  facts.max_num_batched_tokens = plan.max_num_batched_tokens;
  facts.max_model_len = plan.max_model_len;
  facts.vocab_size = config.vocab_size;
  facts.eos_token_ids = config.eos_token_ids;
  facts.weights_bytes = plan.weights_bytes;
  facts.kv_bytes = plan.kv_bytes;
  facts.workspace_bytes = plan.workspace_bytes;
  facts.process_bytes = plan.process_bytes;
  facts.generation_config_json = source.generation_config_json();
  facts.num_parameters = source.num_parameters();
  return facts;
}

absl::StatusOr<Device> OpenCpu(const Settings& settings) {
  const CpuLimits limits = ReadCpuLimits();
  const int max_threads = limits.max_threads();
  if (settings.threads > static_cast<uint32_t>(max_threads)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--threads is ", settings.threads, "; this process may use at most ", max_threads, " (",
        limits.num_cpus, " CPUs",
        limits.quota_cpus > 0 ? absl::StrCat(", cgroup quota ", limits.quota_cpus) : "", ")"));
  }
  Device device;
  if (settings.cpu_kernels == "reference") {
    device.kernels = &kernels::ReferenceKernels();
  } else if (settings.cpu_isa == "auto") {
    device.kernels = &kernels::BestCpuKernels();
  } else {
    device.kernels = kernels::FindCpuKernels(settings.cpu_isa.c_str());
    if (device.kernels == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--cpu-isa is ", settings.cpu_isa, "; this CPU can run ", kernels::RunnableCpuKernels()));
    }
  }
  const int num_threads =
      settings.threads == 0 ? limits.num_threads() : static_cast<int>(settings.threads);
  device.pool = std::make_unique<CpuPool>(num_threads, limits.CpusFor(num_threads));
  device.description = absl::StrCat(
      "cpu: ", num_threads, num_threads == 1 ? " thread, " : " threads, ", device.kernels->name);
  return device;
}

// How many threads read the weights: more than that no disk or page cache feeds.
int NumReaders(int num_threads) { return std::clamp(num_threads, 2, 8); }

absl::Status LoadOnCpu(const Settings& settings, const Device& device, const ModelSource& source,
                       const Loading& loading, LoadedModel* model) {
  const int num_threads = device.pool->num_threads();
  MILI_ASSIGN_OR_RETURN(model->plan,
                        PlanMemory(model->config, Weights::BytesNeeded(source, device.kernels),
                                   device.kernels->kv_dtype, LimitsOf(settings, num_threads)));
  if (loading.watch.on_plan) loading.watch.on_plan(model->plan);
  MILI_ASSIGN_OR_RETURN(Weights weights,
                        Weights::Load(source, {.num_threads = NumReaders(num_threads),
                                               .kernels = device.kernels,
                                               .progress = loading.watch.progress,
                                               .cancelled = loading.watch.cancelled}));
  MILI_ASSIGN_OR_RETURN(model->backend,
                        ModelBackend::Create({.config = model->config,
                                              .plan = model->plan,
                                              .compute = {device.kernels, device.pool.get()},
                                              .num_valid_tokens = loading.num_valid_tokens()},
                                             std::move(weights)));
  model->executor_cpu = device.pool->caller_cpu();
  return absl::OkStatus();
}

absl::Status LoadOnGpu(const Settings& settings, const Gpu& gpu, const ModelSource& source,
                       const Loading& loading, LoadedModel* model) {
  const bool is_fp8 = settings.quantization == "fp8";
  if (!is_fp8 && settings.quantization != "none") {
    return absl::InvalidArgumentError(
        absl::StrCat("--quantization ", settings.quantization, " is for CPUs; add --device cpu"));
  }
  const GpuWeightsFacts weights = GpuWeightsOf(source, is_fp8);
  MILI_ASSIGN_OR_RETURN(model->plan, PlanGpuMemory(model->config, weights.size_bytes, weights.dtype,
                                                   LimitsOf(settings, gpu)));
  if (loading.watch.on_plan) loading.watch.on_plan(model->plan);
  MILI_ASSIGN_OR_RETURN(
      model->runner,
      LoadGpuRunner(source, {.gpu = gpu,
                             .plan = model->plan,
                             .is_fp8 = is_fp8,
                             .tunes = settings.gpu_tuning,
                             .kernels = &kernels::ReferenceKernels(),
                             .num_threads = NumReaders(ReadCpuLimits().max_threads()),
                             .progress = loading.watch.progress,
                             .cancelled = loading.watch.cancelled,
                             .num_valid_tokens = loading.num_valid_tokens}));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Device> OpenDevice(const Settings& settings) {
  std::string fallback;
  if (settings.device != "cpu") {
    absl::StatusOr<Gpu> gpu = OpenGpu();
    if (gpu.ok()) {
      Device device;
      device.description = absl::StrCat("cuda: ", gpu->Describe());
      device.gpu = *std::move(gpu);
      return device;
    }
    if (settings.device == "cuda") return gpu.status();
    // In a build for CPUs there is nothing to fall back from.
    if (!absl::IsUnimplemented(gpu.status())) fallback = std::string(gpu.status().message());
  }
  MILI_ASSIGN_OR_RETURN(Device device, OpenCpu(settings));
  device.fallback = std::move(fallback);
  return device;
}

absl::StatusOr<LoadedModel> LoadModel(const Settings& settings, const Device& device,
                                      const LoadWatch& watch) {
  const absl::Time start = absl::Now();
  MILI_ASSIGN_OR_RETURN(std::unique_ptr<ModelSource> source, ModelSource::Open(settings.model));
  if (settings.load_format != "auto" && settings.load_format != ToAbsl(source->format())) {
    return absl::InvalidArgumentError(absl::StrCat(settings.model, " is ", ToAbsl(source->format()),
                                                   "; --load-format is ", settings.load_format));
  }
  const bool is_fp8 = settings.quantization == "fp8";
  if (is_fp8 && !device.gpu) {
    return absl::InvalidArgumentError(
        "--quantization fp8 needs an NVIDIA GPU; a CPU takes q8_0 or q4_k");
  }
  // On the GPU, while the weights go there.
  if (!is_fp8) {
    MILI_ASSIGN_OR_RETURN(source, QuantizeWhileReading(std::move(source), settings.quantization));
  }
  LoadedModel model;
  model.config = source->config();
  TokenizerPart tokenizer;
  std::thread tokenizer_thread([&] { tokenizer = ReadTokenizer(*source); });
  const auto wait_for_tokenizer = [&]() -> uint32_t {
    if (tokenizer_thread.joinable()) tokenizer_thread.join();
    return tokenizer.vocab_size;
  };
  const Loading loading = {watch, wait_for_tokenizer};
  const absl::Status status = device.gpu
                                  ? LoadOnGpu(settings, *device.gpu, *source, loading, &model)
                                  : LoadOnCpu(settings, device, *source, loading, &model);
  wait_for_tokenizer();
  MILI_RETURN_IF_ERROR(status);
  model.tokenizer = std::move(tokenizer.bundle);
  model.tokenizer_problem = std::move(tokenizer.problem);
  model.facts = FactsOf(settings, device, *source, model.plan);
  malloc_trim(0);  // what reading the tokenizer left behind
  model.facts.load = absl::Now() - start;
  return model;
}

std::unique_ptr<Engine> MakeEngine(LoadedModel& model,
                                   std::function<void(const StepStats&)> on_step,
                                   std::function<void(const absl::Status&)> on_device_lost) {
  Engine::Options options = {.limits = SlotTable::LimitsOf(model.plan, model.config.vocab_size),
                             .on_step = std::move(on_step),
                             .on_device_lost = std::move(on_device_lost),
                             .executor_cpu = model.executor_cpu};
  if (model.runner != nullptr) {
    return std::make_unique<Engine>(std::move(options), std::move(model.runner));
  }
  return std::make_unique<Engine>(std::move(options), model.backend.get());
}

}  // namespace mili::worker

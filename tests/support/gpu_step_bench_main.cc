// mili-gpu-step-bench [--fp8] [--by-rule] MODEL [SEQS,TOKENS,CONTEXT[+PROMPT]]...: how long steps
// take on the GPU, without engine or router: replays of a captured step back to back, the same
// launched kernel by kernel, and how long the launching thread is busy with that. By default decode
// rows at several batch sizes and contexts, and prompts; +PROMPT adds one of so many tokens. At the
// end what it takes to capture all steps that a worker captures ahead. --by-rule does not choose
// kernels by timing them.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include <absl/time/clock.h>

#include "tests/support/gpu_model_runner.h"

namespace mili::worker {
namespace {

constexpr int kWarmUps = 3;
constexpr int kReplays = 20;
constexpr int kRounds = 7;

struct Shape {
  uint32_t num_seqs = 1;
  uint32_t num_new = 1;  // tokens of each sequence in this step
  uint32_t context = 1;  // of each, with the new ones
  uint32_t prompt = 0;   // tokens of one more sequence, all of them new
};

// Appends a sequence that computes the last `num_new` tokens of `context`, in pages from
// `first_page` on.
void Add(StepBatch* batch, uint32_t num_new, uint32_t context, uint32_t first_page,
         uint32_t num_pages) {
  const uint32_t row = batch->num_rows();
  batch->slots.push_back(SlotId(row));
  batch->context_lens.push_back(context);
  for (int64_t i = 0; i < batch->page_table_stride; ++i) {
    batch->page_table.push_back(static_cast<uint32_t>((first_page + i) % num_pages));
  }
  for (uint32_t t = context - num_new; t < context; ++t) {
    batch->token_ids.push_back((17 * t + 31 * row) % 1000);
    batch->positions.push_back(t);
    const uint32_t at = (first_page + t / kGpuPageSizeTokens) % num_pages;
    batch->slot_map.push_back(int64_t{at} * kGpuPageSizeTokens + t % kGpuPageSizeTokens);
  }
  batch->cu_seqlens.push_back(batch->num_tokens());
  batch->samples.push_back({row, batch->num_tokens() - 1, context});
}

StepBatch BatchOf(const Shape& shape, uint32_t num_pages) {
  StepBatch batch;
  batch.Clear();
  const uint32_t longest = std::max(shape.context, shape.prompt);
  batch.page_table_stride = (longest + kGpuPageSizeTokens - 1) / kGpuPageSizeTokens;
  const auto stride = static_cast<uint32_t>(batch.page_table_stride);
  for (uint32_t s = 0; s < shape.num_seqs; ++s) {
    Add(&batch, shape.num_new, shape.context, s * stride, num_pages);
  }
  if (shape.prompt > 0) {
    Add(&batch, shape.prompt, shape.prompt, shape.num_seqs * stride, num_pages);
  }
  return batch;
}

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::Status Measure(CudaModel& model, const Shape& shape) {
  const StepBatch batch = BatchOf(shape, model.plan().num_pages);
  StepPacker packer(model.config(), model.plan(), model.workspace());
  MILI_ASSIGN_OR_RETURN(const PinnedMemory host,
                        PinnedMemory::Allocate(model.workspace().staging_bytes, "a step"));
  MILI_ASSIGN_OR_RETURN(
      const PinnedMemory sampled,
      PinnedMemory::Allocate(model.plan().max_num_seqs * sizeof(gpu::k::SampledRow), "results"));
  // Greedy and nothing else, as the engine's slots are by default.
  std::vector<SlotRecord> records(batch.num_rows());
  for (uint32_t row = 0; row < batch.num_rows(); ++row) records[row].slot = SlotId(row);
  std::byte* const device = model.workspace().staging[0];
  CudaStream& stream = model.stream();
  const PackedStep packed =
      packer.Pack(batch, records, PaddingOf(batch, model.plan()), host.data(), device,
                  reinterpret_cast<gpu::k::SampledRow*>(sampled.data()));
  MILI_RETURN_IF_ERROR(stream.CopyToDevice(device, host.data(), packed.size_bytes));
  MILI_RETURN_IF_ERROR(gpu::LayOutStep(packed.layout, stream));
  for (int i = 0; i < kWarmUps; ++i) MILI_RETURN_IF_ERROR(model.RunStep(packed.shape));
  MILI_RETURN_IF_ERROR(stream.Synchronize());
  MILI_RETURN_IF_ERROR(stream.BeginCapture());
  const absl::Status status = model.RunStep(packed.shape);
  MILI_ASSIGN_OR_RETURN(const CudaGraph graph, stream.EndCapture());
  MILI_RETURN_IF_ERROR(status);
  MILI_ASSIGN_OR_RETURN(const CudaEvent start, CudaEvent::Create(true));
  MILI_ASSIGN_OR_RETURN(const CudaEvent end, CudaEvent::Create(true));
  std::vector<double> replay_ms, eager_ms, launch_ms;
  for (int round = 0; round < kRounds; ++round) {
    for (const bool is_replay : {true, false}) {
      const int count = is_replay && shape.num_new == 1 ? kReplays : 3;
      MILI_RETURN_IF_ERROR(stream.Synchronize());
      MILI_RETURN_IF_ERROR(stream.Record(start));
      const absl::Time begin = absl::Now();
      for (int i = 0; i < count; ++i) {
        MILI_RETURN_IF_ERROR(is_replay ? stream.Launch(graph) : model.RunStep(packed.shape));
      }
      const double busy_ms = absl::ToDoubleMilliseconds(absl::Now() - begin);
      MILI_RETURN_IF_ERROR(stream.Record(end));
      MILI_RETURN_IF_ERROR(end.Wait());
      MILI_ASSIGN_OR_RETURN(const float ms, end.ElapsedMs(start));
      (is_replay ? replay_ms : eager_ms).push_back(ms / count);
      if (!is_replay) launch_ms.push_back(busy_ms / count);
    }
  }
  std::printf("%6u  %6u  %7u  %6u  %9.3f  %8.3f  %9.3f\n", shape.num_seqs, shape.num_new,
              shape.context, shape.prompt, MedianOf(replay_ms), MedianOf(eager_ms),
              MedianOf(launch_ms));
  return absl::OkStatus();
}

absl::Status CaptureAll(GpuModelRunner& runner) {
  MILI_ASSIGN_OR_RETURN(const Gpu before, OpenGpu());
  const absl::Time begin = absl::Now();
  const size_t count = runner.CaptureAll();
  const double ms = absl::ToDoubleMilliseconds(absl::Now() - begin);
  MILI_ASSIGN_OR_RETURN(const Gpu after, OpenGpu());
  std::printf("%zu of %zu steps captured in %.1f ms, %.1f MiB of %.1f planned\n", count,
              AllPaddings(runner.model().plan()).size(), ms,
              static_cast<double>(before.free_bytes - after.free_bytes) / (1 << 20),
              static_cast<double>(runner.model().plan().graphs_bytes) / (1 << 20));
  return absl::OkStatus();
}

struct Options {
  bool is_fp8 = false;
  bool by_rule = false;
};

absl::Status Run(const char* path, const Options& options, const std::vector<Shape>& shapes) {
  MILI_ASSIGN_OR_RETURN(const Gpu gpu, OpenGpu());
  MILI_ASSIGN_OR_RETURN(const std::unique_ptr<ModelSource> source, ModelSource::Open(path));
  GpuMemoryLimits limits;
  limits.max_num_batched_tokens = 8192;
  MILI_ASSIGN_OR_RETURN(
      const std::unique_ptr<GpuModelRunner> runner,
      GpuModelRunner::Load(
          *source, gpu, limits, options.is_fp8,
          options.by_rule ? LinearTuningOptions()
                          : LinearTuningOptions{.folder = UserCacheFolder(), .max_seconds = 3}));
  const LinearTuningReport& tuning = runner->model().tuning();
  std::printf("kernels chosen in %.3f s %s %s\n", tuning.seconds, tuning.read_error.c_str(),
              tuning.write_error.c_str());
  std::printf("%s on %s\n%6s  %6s  %7s  %6s  %9s  %8s  %9s\n", path, gpu.Describe().c_str(), "seqs",
              "tokens", "context", "prompt", "replay ms", "eager ms", "launch ms");
  for (const Shape& shape : shapes) {
    MILI_RETURN_IF_ERROR(Measure(runner->model(), shape));
  }
  return CaptureAll(*runner);
}

}  // namespace
}  // namespace mili::worker

int main(int argc, char** argv) {
  using mili::worker::Shape;
  std::vector<Shape> shapes;
  mili::worker::Options options;
  for (; argc > 1 && std::strncmp(argv[1], "--", 2) == 0; ++argv, --argc) {
    options.is_fp8 |= std::strcmp(argv[1], "--fp8") == 0;
    options.by_rule |= std::strcmp(argv[1], "--by-rule") == 0;
  }
  for (int i = 2; i < argc; ++i) {
    Shape shape;
    if (std::sscanf(argv[i], "%u,%u,%u+%u", &shape.num_seqs, &shape.num_new, &shape.context,
                    &shape.prompt) < 3) {
      argc = 0;
      break;
    }
    shapes.push_back(shape);
  }
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: mili-gpu-step-bench [--fp8] [--by-rule] MODEL "
                 "[SEQS,TOKENS,CONTEXT[+PROMPT]]...\n");
    return 2;
  }
  if (shapes.empty()) {
    shapes = {{1, 1, 256},     {8, 1, 256},     {16, 1, 256},   {64, 1, 256},
              {256, 1, 256},   {64, 1, 1088},   {1, 16, 16},    {1, 128, 128},
              {1, 1024, 1024}, {1, 2048, 2048}, {1, 8192, 8192}};
  }
  const absl::Status status = mili::worker::Run(argv[1], options, shapes);
  if (status.ok()) return 0;
  std::fprintf(stderr, "mili-gpu-step-bench: %s\n", std::string(status.message()).c_str());
  return 1;
}

// mili-cpu-decode-bench MODEL [THREADS]: how near decoding of one sequence comes to reading its
// weights and doing nothing else. A step and a plain read of the same bytes by the same threads
// take turns, since the bandwidth of a shared machine changes within milliseconds: the share is the
// median over steps of what the reads before and after took, on average, over what the step took.
// Prints one line of JSON.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "common/base/status_macros.h"
#include "common/core/memory_plan.h"
#include "common/formats/model_source.h"
#include "kernels/bench/peaks.h"
#include "kernels/cpu/kernels.h"
#include "tests/support/prompt_chunks.h"
#include "worker/device/cpu_pool.h"
#include "worker/device/cpu_topology.h"
#include "worker/model/model_backend.h"

namespace mili::worker {
namespace {

constexpr uint32_t kTokens = 65;  // the first starts the sequence
constexpr int kRounds = 3;

struct Block {
  const std::byte* begin = nullptr;
  const std::byte* end = nullptr;
};

// Where the matrices lie that a step reads, in few blocks: between them are norms.
std::vector<Block> BlocksOf(const Weights& weights, const kernels::CpuKernels& kernels) {
  std::vector<Block> all;
  const auto add = [&](const kernels::Matrix& m) {
    const size_t bytes = m.is_packed ? kernels.packed_bytes(m.dtype, m.rows, m.cols)
                                     : m.rows * RowBytes(m.dtype, m.cols);
    all.push_back({m.data, m.data + bytes});
  };
  add(weights.head());
  for (const LayerWeights& w : weights.layers()) {
    for (const kernels::Matrix* m : {&w.q, &w.k, &w.v, &w.o, &w.gate, &w.up, &w.down}) add(*m);
  }
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.begin < b.begin; });
  std::vector<Block> blocks;
  constexpr int64_t kNorms = 64 << 10;
  for (const Block& block : all) {
    if (blocks.empty() || block.begin - blocks.back().end > kNorms) {
      blocks.push_back(block);
    } else {
      blocks.back().end = block.end;
    }
  }
  return blocks;
}

double ReadAll(const std::vector<Block>& blocks, kernels::ParallelFor& pool) {
  double seconds = 0;
  for (const Block& block : blocks) {
    seconds += kernels::ReadSeconds(block.begin, (block.end - block.begin) / 256 * 256, pool);
  }
  return seconds;
}

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::Status Main(const char* path, int num_threads) {
  const kernels::CpuKernels& table = kernels::BestCpuKernels();
  MILI_ASSIGN_OR_RETURN(const std::unique_ptr<ModelSource> source, ModelSource::Open(path));
  const CpuLimits cpus = ReadCpuLimits();
  if (num_threads <= 0) num_threads = cpus.num_threads();
  CpuPool pool(num_threads, cpus.CpusFor(num_threads));
  MemoryLimits limits;
  limits.max_model_len = 128;
  limits.num_threads = static_cast<uint32_t>(num_threads);
  MILI_ASSIGN_OR_RETURN(
      const MemoryPlan plan,
      PlanMemory(source->config(), Weights::BytesNeeded(*source, &table), table.kv_dtype, limits));
  MILI_ASSIGN_OR_RETURN(Weights weights, Weights::Load(*source, {.num_threads = num_threads,
                                                                 .kernels = &table,
                                                                 .progress = nullptr,
                                                                 .cancelled = nullptr}));
  const std::vector<Block> blocks = BlocksOf(weights, table);
  MILI_ASSIGN_OR_RETURN(const std::unique_ptr<ModelBackend> backend,
                        ModelBackend::Create({.config = source->config(),
                                              .plan = plan,
                                              .compute = {&table, &pool},
                                              .num_valid_tokens = 0},
                                             std::move(weights)));
  const SlotTable::Limits slot_limits = SlotTable::LimitsOf(plan, source->config().vocab_size);
  std::vector<TokenId> tokens;
  for (uint32_t i = 0; i < kTokens; ++i) tokens.push_back((17 * i + 5) % 1000);
  SamplingParams greedy;
  greedy.temperature = 0;
  std::vector<double> shares, steps, reads;
  for (int round = 0; round < kRounds; ++round) {
    SlotTable slots(slot_limits);
    StepBatch batch;
    batch.Reserve(slot_limits.num_slots, slot_limits.max_num_batched_tokens,
                  slot_limits.max_pages_per_seq());
    double before = 0;
    for (uint32_t i = 0; i < kTokens; ++i) {
      const auto start = std::chrono::steady_clock::now();
      MILI_RETURN_IF_ERROR(slots.Apply(PlanOfChunk(tokens, i, 1, slot_limits), &batch));
      const SampleTask task = {0, i + 1, &greedy, {}, {}, false};
      TokenOutcome outcome;
      MILI_RETURN_IF_ERROR(backend->Execute(batch, {&task, 1}, {&outcome, 1}, {}));
      MILI_RETURN_IF_ERROR(outcome.status);
      const std::chrono::duration<double> step = std::chrono::steady_clock::now() - start;
      const double after = ReadAll(blocks, pool);
      if (i > 0) {
        shares.push_back((before + after) / 2 / step.count());
        steps.push_back(step.count());
        reads.push_back(after);
      }
      before = after;
    }
  }
  size_t bytes = 0;
  for (const Block& block : blocks) bytes += block.end - block.begin;
  std::sort(shares.begin(), shares.end());
  std::printf(
      "{\"of_read\": %.3f, \"of_read_quartiles\": [%.3f, %.3f], \"step_ms\": %.3f, "
      "\"read_gb_per_s\": %.1f, \"weight_bytes\": %zu, \"steps\": %zu, \"threads\": %d}\n",
      MedianOf(shares), shares[shares.size() / 4], shares[shares.size() * 3 / 4],
      1e3 * MedianOf(steps), static_cast<double>(bytes) / 1e9 / MedianOf(reads), bytes,
      steps.size(), num_threads);
  return absl::OkStatus();
}

}  // namespace
}  // namespace mili::worker

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: mili-cpu-decode-bench MODEL [THREADS]\n");
    return 2;
  }
  const absl::Status status = mili::worker::Main(argv[1], argc > 2 ? std::atoi(argv[2]) : 0);
  if (status.ok()) return 0;
  std::fprintf(stderr, "mili-cpu-decode-bench: %s\n", status.ToString().c_str());
  return 1;
}

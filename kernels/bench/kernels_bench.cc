// Speed of the CPU kernels beside the machine's limits, measured in turn with each:
//   kernels_bench [--benchmark_filter=REGEX]
//   MILI_BENCH_THREADS=2 MILI_BENCH_TABLE=avx2 kernels_bench
// bytes_per_second of a linear is weights read, of attention KV read, else what is read and
// written; "of_read" is what a plain read of the same bytes by the same threads takes over what the
// kernel takes, "of_peak" the share of the rate of multiply-adds. Weights and KV are cold, as a
// model's are where it is larger than the caches; norms, SiLU, embeddings and sampling are warm,
// and so are the reads beside them. tools/bench/cpu_kernels prints a table of it.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/bench/cpu_bench.h"
#include "kernels/cpu/kernels.h"
#include "kernels/reference/kernels.h"

namespace mili::kernels {
namespace {

void BenchNorm(benchmark::State& state, Setup& setup, int64_t num_tokens) {
  constexpr int64_t kHidden = 1024;
  std::vector<float> residual(num_tokens * kHidden, 1), delta(residual.size(), 0.001f);
  std::vector<float> weight(kHidden, 1), out(residual.size());
  const size_t bytes = residual.size() * 4 * sizeof(float);  // 2 read, 2 written
  const Buffer same = RandomBytes(bytes);
  MeasureWarm(state, setup.pool, same.get(), bytes, [&] {
    setup.table.add_rms_norm(
        {residual.data(), delta.data(), weight.data(), 1e-5f, num_tokens, kHidden, out.data()},
        setup.pool);
  });
}

void BenchSilu(benchmark::State& state, Setup& setup, int64_t num_tokens) {
  constexpr int64_t kSize = 3072;
  std::vector<float> gate(num_tokens * kSize, 0.5f), up(gate.size(), 0.25f), out(gate.size());
  const size_t bytes = gate.size() * 3 * sizeof(float);
  const Buffer same = RandomBytes(bytes);
  MeasureWarm(state, setup.pool, same.get(), bytes, [&] {
    setup.table.silu_mul({gate.data(), up.data(), num_tokens, kSize, out.data()}, setup.pool);
  });
}

void BenchEmbed(benchmark::State& state, Setup& setup, int64_t num_tokens) {
  constexpr int64_t kRows = 32768, kHidden = 1024;
  const Buffer table = RandomBytes(kRows * kHidden * 2);
  std::vector<uint32_t> ids(num_tokens);
  std::minstd_rand rng(1);
  for (uint32_t& id : ids) id = rng() % kRows;
  std::vector<float> out(num_tokens * kHidden);
  const EmbedParams params = {
      {DType::kBF16, table.get(), kRows, kHidden}, ids.data(), num_tokens, out.data()};
  const size_t bytes = num_tokens * kHidden * (2 + sizeof(float));
  MeasureWarm(state, setup.pool, table.get(), bytes,
              [&] { setup.table.embed(params, setup.pool); });
}

// One row of Qwen3's vocabulary; the time includes the copy that renews the logits.
void BenchSample(benchmark::State& state, Setup& setup, SampleParams params) {
  constexpr int64_t kVocab = 151936;
  std::vector<float> fresh(kVocab), logits(kVocab);
  std::minstd_rand rng(1);
  std::normal_distribution<float> normal(0, 3);
  for (float& logit : fresh) logit = normal(rng);
  const Buffer workspace = RandomBytes(setup.table.sample_workspace_bytes(kVocab));
  params.logits = logits.data();
  params.vocab_size = kVocab;
  params.num_valid_tokens = kVocab - 267;
  params.workspace = workspace.get();
  SingleThread one_thread;  // has a row; rows run side by side
  MeasureWarm(state, one_thread, fresh.data(), kVocab * sizeof(float) / 256 * 256, [&] {
    logits = fresh;
    ++params.position;
    benchmark::DoNotOptimize(setup.table.sample(params));
  });
}

void RegisterSampling(Setup& setup) {
  SampleParams greedy;
  greedy.temperature = 0;
  SampleParams warm;
  warm.temperature = 0.7f;
  SampleParams narrow = warm;
  narrow.top_k = 50;
  narrow.top_p = 0.95f;
  const std::pair<const char*, SampleParams> cases[] = {
      {"greedy", greedy}, {"temperature", warm}, {"top_k_top_p", narrow}};
  for (const auto& [name, params] : cases) {
    Add(std::string("sample/") + name, [&setup, p = params](auto& s) { BenchSample(s, setup, p); });
  }
}

void RegisterRows(Setup& setup) {
  for (const int64_t tokens : {16, 512}) {
    const std::string count = "/tokens:" + std::to_string(tokens);
    Add("norm" + count, [&setup, tokens](auto& s) { BenchNorm(s, setup, tokens); });
    Add("silu" + count, [&setup, tokens](auto& s) { BenchSilu(s, setup, tokens); });
    Add("embed" + count, [&setup, tokens](auto& s) { BenchEmbed(s, setup, tokens); });
  }
}

// More than twice the last-level cache, as far as the C library knows it.
size_t ColdBytes() {
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return std::max<size_t>(size_t{256} << 20, cache > 0 ? cache / 4 * 9 : 0);
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const char* name = std::getenv("MILI_BENCH_TABLE");
  const char* threads = std::getenv("MILI_BENCH_THREADS");
  const CpuKernels* table = name == nullptr ? &BestCpuKernels() : FindCpuKernels(name);
  if (name != nullptr && std::string(name) == "reference") table = &ReferenceKernels();
  if (table == nullptr) {
    std::fprintf(stderr, "MILI_BENCH_TABLE: no kernels '%s' on this CPU; there are: reference %s\n",
                 name, RunnableCpuKernels().c_str());
    return 2;
  }
  const int num_threads = threads == nullptr ? static_cast<int>(std::thread::hardware_concurrency())
                                             : std::atoi(threads);
  SpinningPool pool(std::max(1, num_threads));
  Setup setup = {*table, pool};
  setup.memory_bytes = ColdBytes();
  const Buffer memory = RandomBytes(setup.memory_bytes);
  setup.memory = memory.get();
  std::printf("table %s, %d threads\n", table->name, pool.num_threads());
  benchmark::AddCustomContext("table", table->name);
  benchmark::AddCustomContext("threads", std::to_string(pool.num_threads()));
  benchmark::AddCustomContext("cold_bytes", std::to_string(setup.memory_bytes));
  const std::pair<const char*, Arithmetic> peaks[] = {{"int8_macs_per_s", Arithmetic::kInt8},
                                                      {"int16_macs_per_s", Arithmetic::kInt16},
                                                      {"bf16_macs_per_s", Arithmetic::kBf16},
                                                      {"fp32_macs_per_s", Arithmetic::kFp32}};
  for (const auto& [what, arithmetic] : peaks) {
    benchmark::AddCustomContext(what, std::to_string(PeakMacs(*table, arithmetic, pool)));
  }
  RegisterLinear(setup);
  RegisterAttention(setup);
  RegisterRows(setup);
  RegisterSampling(setup);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace mili::kernels

int main(int argc, char** argv) { return mili::kernels::Main(argc, argv); }

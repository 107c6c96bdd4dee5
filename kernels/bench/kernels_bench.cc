// Speed of the CPU kernels beside the machine's limits, measured in the same run:
//   kernels_bench [--benchmark_filter=REGEX]
//   MILI_BENCH_THREADS=2 MILI_BENCH_TABLE=avx2 kernels_bench
// bytes_per_second of a linear is weights read, of attention KV read, else what is read and
// written; "of_read" is its share of the bandwidth, "of_peak" the share of the rate of
// multiply-adds. Weights are larger than the caches, as a model's are. tools/bench/cpu_kernels
// prints a table of it.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/bench/peaks.h"
#include "kernels/cpu/kernels.h"
#include "kernels/reference/kernels.h"

namespace mili::kernels {
namespace {

// Threads that spin between calls, so that waking them is not measured.
class SpinningPool final : public ParallelFor {
 public:
  explicit SpinningPool(int num_threads) : num_threads_(num_threads) {
    for (int i = 1; i < num_threads; ++i) {
      threads_.emplace_back([this, i] {
        for (int round = 1;; ++round) {
          while (round_.load(std::memory_order_acquire) < round) std::this_thread::yield();
          if (task_ == nullptr) return;
          task_(context_, i);
          num_done_.fetch_add(1, std::memory_order_release);
        }
      });
    }
  }
  ~SpinningPool() override {
    task_ = nullptr;
    round_.fetch_add(1, std::memory_order_release);
    for (std::thread& thread : threads_) thread.join();
  }
  int num_threads() const override { return num_threads_; }
  void Run(void (*task)(void*, int), void* context) override {
    task_ = task;
    context_ = context;
    num_done_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    task(context, 0);
    while (num_done_.load(std::memory_order_acquire) < num_threads_ - 1) std::this_thread::yield();
  }

 private:
  const int num_threads_;
  std::atomic<int> round_{0};
  std::atomic<int> num_done_{0};
  void (*task_)(void*, int) = nullptr;
  void* context_ = nullptr;
  std::vector<std::thread> threads_;
};

struct Setup {
  const CpuKernels& table;
  SpinningPool& pool;
  double read_bytes_per_second = 0;
  Peaks peaks;
};

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<std::byte, FreeDeleter>;

// Random bytes without the bits that would make a half infinite; on large pages, as the worker's
// weights are, which are read half as fast again.
Buffer RandomBytes(size_t size) {
  constexpr size_t kPage = size_t{2} << 20;
  const size_t whole = (size / kPage + 1) * kPage;
  Buffer buffer(static_cast<std::byte*>(std::aligned_alloc(kPage, whole)));
  madvise(buffer.get(), whole, MADV_HUGEPAGE);
  std::minstd_rand rng(1);
  for (size_t i = 0; i < size; ++i) buffer.get()[i] = std::byte(rng() & 0x3b);
  return buffer;
}

constexpr size_t kReadBytes = size_t{256} << 20;

// The share of the peak that multiply-adds in the measured time are, if there is such a peak.
void ReportMacs(benchmark::State& state, int64_t macs, double macs_per_s) {
  state.counters["mac/s"] =
      benchmark::Counter(static_cast<double>(macs), benchmark::Counter::kIsIterationInvariantRate);
  if (macs_per_s == 0) return;
  state.counters["of_peak"] = benchmark::Counter(static_cast<double>(macs) / macs_per_s,
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

// The instructions that a type of weights is multiplied by.
double PeakOf(DType dtype, const Peaks& peaks) {
  if (dtype == DType::kBF16 && peaks.int16_macs_per_s > 0) return peaks.int16_macs_per_s;
  const bool is_float = dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
  return is_float ? peaks.fp32_macs_per_s : peaks.int8_macs_per_s;
}

// The share of the bandwidth that bytes in the measured time are.
void ReportBytes(benchmark::State& state, size_t bytes, const Setup& setup) {
  state.SetBytesProcessed(state.iterations() * bytes);
  state.counters["of_read"] =
      benchmark::Counter(static_cast<double>(bytes) / setup.read_bytes_per_second,
                         benchmark::Counter::kIsIterationInvariantRate);
}

void BenchLinear(benchmark::State& state, Setup& setup, DType dtype, int64_t num_tokens) {
  constexpr int64_t kCols = 2048;
  const int64_t rows = static_cast<int64_t>((size_t{96} << 20) / RowBytes(dtype, kCols)) / 64 * 64;
  const size_t bytes = rows * RowBytes(dtype, kCols);
  const Buffer weights = RandomBytes(bytes);
  std::vector<float> x(num_tokens * kCols, 0.5f), y(num_tokens * rows);
  const Buffer workspace = RandomBytes(setup.table.linear_workspace_bytes(num_tokens, kCols));
  LinearParams params;
  params.x = x.data();
  params.num_tokens = num_tokens;
  params.in_features = kCols;
  // Random bytes are as good packed as stored.
  const bool is_packed = setup.table.packed_bytes(dtype, rows, kCols) != 0;
  params.parts[0] = {{dtype, weights.get(), rows, kCols, is_packed}, nullptr, y.data(), rows};
  params.num_parts = 1;
  params.workspace = workspace.get();
  for (auto _ : state) setup.table.linear(params, setup.pool);
  ReportBytes(state, bytes, setup);
  ReportMacs(state, rows * kCols * num_tokens, PeakOf(dtype, setup.peaks));
}

// 16 query and 8 KV heads of 128, as in Qwen3-0.6B.
void BenchAttention(benchmark::State& state, Setup& setup, int64_t num_new, int64_t context) {
  constexpr int64_t kHeads = 16, kKvHeads = 8, kDim = 128, kPage = 16;
  const int64_t num_pages = (context + kPage - 1) / kPage;
  const int64_t page_stride = 2 * kKvHeads * kPage * kDim;
  const DType dtype = setup.table.kv_dtype;
  const size_t element = TraitsOf(dtype).block_bytes;
  const Buffer kv = RandomBytes(num_pages * page_stride * element);
  std::vector<float> q(num_new * kHeads * kDim, 0.1f), out(q.size());
  std::vector<uint32_t> pages(num_pages);
  std::iota(pages.begin(), pages.end(), 0u);
  const int64_t cu_seqlens[] = {0, num_new};
  PagedAttentionParams params;
  params.q = q.data();
  params.q_stride = kHeads * kDim;
  params.out = out.data();
  params.cu_seqlens = cu_seqlens;
  params.context_lens = &context;
  params.page_table = pages.data();
  params.page_table_stride = num_pages;
  params.num_seqs = 1;
  params.num_heads = kHeads;
  params.num_kv_heads = kKvHeads;
  params.head_dim = kDim;
  params.scale = 0.088f;
  params.kv = {dtype,       kv.get(),     kv.get() + kKvHeads * kPage * kDim * element,
               page_stride, kPage * kDim, kPage};
  for (auto _ : state) setup.table.paged_attention(params, setup.pool);
  ReportBytes(state, context * 2 * kKvHeads * kDim * element, setup);
  const int64_t seen = num_new * (context - num_new) + num_new * (num_new + 1) / 2;
  ReportMacs(state, seen * kHeads * 2 * kDim, setup.peaks.fp32_macs_per_s);
}

void BenchNorm(benchmark::State& state, Setup& setup, int64_t num_tokens) {
  constexpr int64_t kHidden = 1024;
  std::vector<float> residual(num_tokens * kHidden, 1), delta(residual.size(), 0.001f);
  std::vector<float> weight(kHidden, 1), out(residual.size());
  for (auto _ : state) {
    setup.table.add_rms_norm(
        {residual.data(), delta.data(), weight.data(), 1e-5f, num_tokens, kHidden, out.data()},
        setup.pool);
  }
  ReportBytes(state, num_tokens * kHidden * 4 * sizeof(float), setup);  // 2 read, 2 written
}

void BenchSilu(benchmark::State& state, Setup& setup, int64_t num_tokens) {
  constexpr int64_t kSize = 3072;
  std::vector<float> gate(num_tokens * kSize, 0.5f), up(gate.size(), 0.25f), out(gate.size());
  for (auto _ : state) {
    setup.table.silu_mul({gate.data(), up.data(), num_tokens, kSize, out.data()}, setup.pool);
  }
  ReportBytes(state, num_tokens * kSize * 3 * sizeof(float), setup);
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
  for (auto _ : state) setup.table.embed(params, setup.pool);
  ReportBytes(state, num_tokens * kHidden * (2 + sizeof(float)), setup);
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
  for (auto _ : state) {
    logits = fresh;
    ++params.position;
    benchmark::DoNotOptimize(setup.table.sample(params));
  }
  ReportBytes(state, kVocab * sizeof(float), setup);
}

// Best of five passes over a block that no cache holds.
double MeasureRead(Setup& setup, const std::byte* data) {
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    best = std::max(best, kReadBytes / ReadSeconds(data, kReadBytes, setup.pool));
  }
  return best;
}

template <typename Bench>
void Add(const std::string& name, Bench bench) {
  benchmark::RegisterBenchmark(name.c_str(), bench)->UseRealTime();
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
    Add(std::string("sample/") + name,
        [&setup, p = params](benchmark::State& s) { BenchSample(s, setup, p); });
  }
}

void Register(Setup& setup) {
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
        DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    for (const int64_t tokens : {1, 4, 8, 16, 512}) {
      Add("linear/" + std::string(NameOf(dtype)) + "/tokens:" + std::to_string(tokens),
          [&setup, dtype, tokens](benchmark::State& s) { BenchLinear(s, setup, dtype, tokens); });
    }
  }
  const std::pair<int64_t, int64_t> spans[] = {{1, 1024},   {1, 8192},    {512, 512},
                                               {512, 2048}, {2048, 2048}, {512, 8192}};
  for (const auto& [num_new, context] : spans) {
    Add("attention/new:" + std::to_string(num_new) + "/context:" + std::to_string(context),
        [&setup, n = num_new, c = context](benchmark::State& s) {
          BenchAttention(s, setup, n, c);
        });
  }
  for (const int64_t tokens : {1, 16, 512}) {
    const std::string count = "/tokens:" + std::to_string(tokens);
    Add("norm" + count, [&setup, tokens](auto& s) { BenchNorm(s, setup, tokens); });
    Add("silu" + count, [&setup, tokens](auto& s) { BenchSilu(s, setup, tokens); });
    Add("embed" + count, [&setup, tokens](auto& s) { BenchEmbed(s, setup, tokens); });
  }
  RegisterSampling(setup);
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
  const Buffer data = RandomBytes(kReadBytes);
  setup.read_bytes_per_second = MeasureRead(setup, data.get());
  setup.peaks = MeasurePeaks(*table, pool);
  std::printf("table %s, %d threads, read %.1f GB/s\n", table->name, pool.num_threads(),
              setup.read_bytes_per_second / 1e9);
  benchmark::AddCustomContext("table", table->name);
  benchmark::AddCustomContext("threads", std::to_string(pool.num_threads()));
  benchmark::AddCustomContext("read_bytes_per_s", std::to_string(setup.read_bytes_per_second));
  benchmark::AddCustomContext("int8_macs_per_s", std::to_string(setup.peaks.int8_macs_per_s));
  benchmark::AddCustomContext("int16_macs_per_s", std::to_string(setup.peaks.int16_macs_per_s));
  benchmark::AddCustomContext("fp32_macs_per_s", std::to_string(setup.peaks.fp32_macs_per_s));
  Register(setup);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace mili::kernels

int main(int argc, char** argv) { return mili::kernels::Main(argc, argv); }

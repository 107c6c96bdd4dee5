// Times paged attention on this GPU against its limits: the KV read at 3.0 TB/s for decode, TFLOP/s
// for prompts. Each figure is the median over replays of a graph of 20 calls or more, over as many
// layers of KV as keep it out of the L2, graph node gaps included. The argument "decode" or
// "prompt" leaves the other kind out; "aims" leaves what tools/bench/gpu has an aim for.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/attention/paged_attention.h"

namespace mili::kernels::cuda {
namespace {

constexpr double kReadBytesPerSecond = 3.0e12;
constexpr size_t kColdBytes = size_t{800} << 20;  // of KV, read in turn: far more than the L2

void Must(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

// Device memory of random 16-bit floats of magnitude 2^-3 to 2^1, or of what the host gives.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) { Must(cudaMalloc(&data_, bytes)); }
  explicit Buffer(const std::vector<int32_t>& host) : Buffer(host.size() * sizeof(int32_t)) {
    Must(cudaMemcpy(data_, host.data(), bytes_, cudaMemcpyHostToDevice));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(data_); }

  void FillRandom(DType dtype) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<uint16_t> values(1 << 20);
    for (uint16_t& v : values) {
      const float x = normal(random);
      v = dtype == DType::kBF16 ? FloatToBf16(x) : FloatToHalf(x);
    }
    for (size_t at = 0; at < bytes_; at += values.size() * 2) {
      Must(cudaMemcpy(static_cast<char*>(data_) + at, values.data(),
                      std::min(values.size() * 2, bytes_ - at), cudaMemcpyHostToDevice));
    }
  }
  void* data() const { return data_; }

 private:
  size_t bytes_;
  void* data_ = nullptr;
};

// Median seconds of one call; call(i) enqueues the i-th of `num_calls` of a graph.
double SecondsACall(int num_calls, const std::function<void(int, cudaStream_t)>& call) {
  constexpr int kReplays = 9;
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cudaEvent_t begin, end;
  Must(cudaStreamCreate(&stream));
  Must(cudaEventCreate(&begin));
  Must(cudaEventCreate(&end));
  call(0, stream);
  Must(cudaStreamSynchronize(stream));
  Must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < num_calls; ++i) call(i, stream);
  Must(cudaStreamEndCapture(stream, &graph));
  Must(cudaGraphInstantiate(&executable, graph, 0));
  Must(cudaGraphLaunch(executable, stream));
  std::vector<double> seconds;
  for (int i = 0; i < kReplays; ++i) {
    Must(cudaEventRecord(begin, stream));
    Must(cudaGraphLaunch(executable, stream));
    Must(cudaEventRecord(end, stream));
    Must(cudaEventSynchronize(end));
    float ms = 0;
    Must(cudaEventElapsedTime(&ms, begin, end));
    seconds.push_back(ms * 1e-3 / num_calls);
  }
  Must(cudaGraphExecDestroy(executable));
  Must(cudaGraphDestroy(graph));
  Must(cudaEventDestroy(begin));
  Must(cudaEventDestroy(end));
  Must(cudaStreamDestroy(stream));
  std::nth_element(seconds.begin(), seconds.begin() + kReplays / 2, seconds.end());
  return seconds[kReplays / 2];
}

// Sequences with shuffled pages in several layers of KV.
class Cache {
 public:
  Cache(const AttentionShape& shape, const std::vector<int32_t>& lens, int max_layers)
      : page_stride_(int64_t{2} * shape.num_kv_heads * kPageTokens * shape.head_dim),
        num_pages_(NumPages(lens)),
        table_stride_((*std::max_element(lens.begin(), lens.end()) + 15) / 16),
        num_layers_(NumLayers(max_layers)),
        kv_(LayerBytes() * num_layers_),
        page_table_(Table(lens)),
        lens_(lens) {
    kv_.FillRandom(shape.dtype);
  }

  int num_layers() const { return num_layers_; }
  PagedKv Layer(int i) const {
    PagedKv cache;
    cache.kv = static_cast<char*>(kv_.data()) + LayerBytes() * (i % num_layers_);
    cache.page_stride = page_stride_;
    cache.num_pages = num_pages_;
    cache.page_table = static_cast<const int32_t*>(page_table_.data());
    cache.page_table_stride = table_stride_;
    cache.context_lens = static_cast<const int32_t*>(lens_.data());
    return cache;
  }

 private:
  static int32_t NumPages(const std::vector<int32_t>& lens) {
    int32_t pages = 0;
    for (const int32_t len : lens) pages += (len + kPageTokens - 1) / kPageTokens;
    return pages;
  }
  size_t LayerBytes() const { return static_cast<size_t>(num_pages_ * page_stride_) * 2; }
  int NumLayers(int max_layers) const {
    return std::clamp(static_cast<int>(kColdBytes / LayerBytes()) + 1, 1, max_layers);
  }
  std::vector<int32_t> Table(const std::vector<int32_t>& lens) const {
    std::vector<int32_t> pages(static_cast<size_t>(num_pages_));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(3));
    std::vector<int32_t> table(lens.size() * static_cast<size_t>(table_stride_), -1);
    size_t next = 0;
    for (size_t s = 0; s < lens.size(); ++s) {
      for (int32_t i = 0; i < (lens[s] + kPageTokens - 1) / kPageTokens; ++i) {
        table[s * static_cast<size_t>(table_stride_) + static_cast<size_t>(i)] = pages[next++];
      }
    }
    return table;
  }

  const int64_t page_stride_;
  const int32_t num_pages_;
  const int32_t table_stride_;
  const int num_layers_;
  Buffer kv_;
  Buffer page_table_;
  Buffer lens_;
};

void BenchDecode(const AttentionShape& shape, const std::string& name,
                 const std::vector<int32_t>& lens, int num_sms) {
  const Cache cache(shape, lens, 256);
  const DecodeGrid grid =
      DecodeGridOf(static_cast<int32_t>(lens.size()), shape.num_kv_heads, DecodeCtas(num_sms));
  std::vector<int32_t> plan(DecodePlanInts(grid.num_ctas));
  PlanDecode(lens.data(), static_cast<int32_t>(lens.size()), shape.num_kv_heads, grid, plan.data());
  const Buffer device_plan(plan);
  const Buffer workspace(DecodeWorkspaceBytes(shape, grid.num_ctas));
  Must(cudaMemset(workspace.data(), 0, DecodeWorkspaceBytes(shape, grid.num_ctas)));
  const int64_t width = int64_t{shape.num_heads + 2 * shape.num_kv_heads} * shape.head_dim;
  Buffer q(lens.size() * static_cast<size_t>(width) * 2);
  q.FillRandom(shape.dtype);
  const Buffer out(lens.size() * static_cast<size_t>(width) * 2);
  DecodeAttentionParams params;
  params.shape = shape;
  params.q = q.data();
  params.q_stride = width;
  params.out = out.data();
  params.out_stride = int64_t{shape.num_heads} * shape.head_dim;
  params.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  params.plan = static_cast<const int32_t*>(device_plan.data());
  params.grid = grid;
  params.workspace = workspace.data();
  const double bytes = 4.0 * shape.num_kv_heads * shape.head_dim *
                       std::accumulate(lens.begin(), lens.end(), int64_t{0});
  for (const bool pdl : {false, true}) {
    params.pdl = pdl;
    const double seconds =
        SecondsACall(std::max(20, cache.num_layers()), [&](int i, cudaStream_t stream) {
          params.cache = cache.Layer(i);
          Must(DecodeAttention(params, stream));
        });
    std::printf("decode %2d/%d heads of %3d  %-14s %-3s %9.2f us  limit %9.2f us  %5.1f %%\n",
                shape.num_heads, shape.num_kv_heads, shape.head_dim, name.c_str(), pdl ? "pdl" : "",
                seconds * 1e6, bytes / kReadBytesPerSecond * 1e6,
                100 * bytes / kReadBytesPerSecond / seconds);
  }
}

void BenchAllDecode(int num_sms) {
  struct Row {
    int batch;
    int32_t len;
  };
  const std::vector<Row> rows = {
      {1, 16},    {1, 128},   {1, 256},  {1, 512},   {1, 1024},  {1, 4096},  {1, 8192},
      {1, 16384}, {1, 32768}, {4, 1024}, {4, 4096},  {8, 256},   {16, 128},  {16, 256},
      {16, 1024}, {16, 4096}, {64, 256}, {64, 1024}, {64, 4096}, {256, 256}, {256, 1024}};
  for (const int32_t num_heads : {16, 32}) {
    const AttentionShape shape = {DType::kBF16, 128, num_heads, 8};
    for (const Row& row : rows) {
      BenchDecode(shape, std::to_string(row.batch) + " x " + std::to_string(row.len),
                  std::vector<int32_t>(static_cast<size_t>(row.batch), row.len), num_sms);
    }
    std::vector<int32_t> mixed(64, 300);
    for (size_t i = 0; i < mixed.size(); i += 8) mixed[i] = 8000;
    BenchDecode(shape, "56x300 8x8000", mixed, num_sms);
  }
  BenchDecode({DType::kBF16, 64, 32, 8}, "64 x 1024", std::vector<int32_t>(64, 1024), num_sms);
  BenchDecode({DType::kF16, 128, 16, 1}, "64 x 4096", std::vector<int32_t>(64, 4096), num_sms);
}

void BenchVarlen(const AttentionShape& shape, const std::string& name,
                 const std::vector<int32_t>& rows, const std::vector<int32_t>& lens, int num_sms) {
  const Cache cache(shape, lens, 8);
  std::vector<int32_t> cu_seqlens = {0};
  double pairs = 0;  // of query and key
  for (size_t s = 0; s < rows.size(); ++s) {
    cu_seqlens.push_back(cu_seqlens.back() + rows[s]);
    pairs += rows[s] * (lens[s] - (rows[s] - 1) / 2.0);
  }
  const int32_t num_rows = cu_seqlens.back();
  const auto num_seqs = static_cast<int32_t>(rows.size());
  const int32_t max_tiles = VarlenTiles(shape, num_rows, num_seqs, num_sms);
  std::vector<int32_t> plan(VarlenPlanInts(max_tiles));
  const int64_t width = int64_t{shape.num_heads + 2 * shape.num_kv_heads} * shape.head_dim;
  VarlenAttentionParams params;
  params.shape = shape;
  const VarlenPlanUse use =
      PlanVarlen(shape, cu_seqlens.data(), lens.data(), num_seqs, max_tiles, plan.data(), num_sms);
  params.num_tiles = use.num_tiles;
  const Buffer workspace(VarlenWorkspaceBytes(shape, num_sms));
  Must(cudaMemset(workspace.data(), 0, VarlenWorkspaceBytes(shape, num_sms)));
  params.num_sms = num_sms;
  params.workspace = use.has_parts ? workspace.data() : nullptr;
  const Buffer device_plan(plan);
  Buffer q(static_cast<size_t>(num_rows * width) * 2);
  q.FillRandom(shape.dtype);
  const Buffer out(static_cast<size_t>(num_rows * width) * 2);
  params.q = q.data();
  params.q_stride = width;
  params.out = out.data();
  params.out_stride = int64_t{shape.num_heads} * shape.head_dim;
  params.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  params.plan = static_cast<const int32_t*>(device_plan.data());
  const double flops = 4.0 * shape.num_heads * shape.head_dim * pairs;
  for (const bool is_portable : {true, false}) {
    params.is_portable = is_portable;
    const double seconds = SecondsACall(20, [&](int i, cudaStream_t stream) {
      params.cache = cache.Layer(i);
      Must(VarlenAttention(params, stream));
    });
    std::printf("prompt %2d/%d heads of %3d  %-14s %-8s %9.2f us  %6.1f TFLOP/s\n", shape.num_heads,
                shape.num_kv_heads, shape.head_dim, name.c_str(), is_portable ? "portable" : "",
                seconds * 1e6, flops / seconds * 1e-12);
  }
}

void BenchAllVarlen(int num_sms) {
  const auto bench = [&](const AttentionShape& shape, const std::string& name, int num_seqs,
                         int32_t rows, int32_t len) {
    const auto count = static_cast<size_t>(num_seqs);
    BenchVarlen(shape, name, std::vector<int32_t>(count, rows), std::vector<int32_t>(count, len),
                num_sms);
  };
  for (const int32_t num_heads : {32, 16}) {  // of Qwen3 8B and 0.6B
    const AttentionShape shape = {DType::kBF16, 128, num_heads, 8};
    for (const int32_t len : {16, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}) {
      bench(shape, std::to_string(len), 1, len, len);
    }
    bench(shape, "2048 at 6144", 1, 2048, 8192);
    for (const int32_t first : {1024, 4096, 8192, 32768}) {
      bench(shape, "64 at " + std::to_string(first), 1, 64, first + 64);
    }
    bench(shape, "512 at 16384", 1, 512, 16384 + 512);
    bench(shape, "8 x 128 at 1000", 8, 128, 1128);
    bench(shape, "16 x 512", 16, 512, 512);
  }
  bench({DType::kBF16, 64, 32, 8}, "8192", 1, 8192, 8192);
}

void BenchAims(int num_sms) {
  for (const int32_t num_heads : {32, 16}) {
    const AttentionShape shape = {DType::kBF16, 128, num_heads, 8};
    BenchVarlen(shape, "8192", {8192}, {8192}, num_sms);
    for (const auto& [batch, len] : {std::pair(64, 1024), {64, 4096}, {256, 1024}}) {
      BenchDecode(shape, std::to_string(batch) + " x " + std::to_string(len),
                  std::vector<int32_t>(static_cast<size_t>(batch), len), num_sms);
    }
  }
}

}  // namespace
}  // namespace mili::kernels::cuda

int main(int argc, char** argv) {
  namespace cuda = mili::kernels::cuda;
  const std::string kind = argc > 1 ? argv[1] : "";
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a bench that is cut off keeps its rows
  int num_sms = 0;
  cuda::Must(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, 0));
  if (kind == "aims") cuda::BenchAims(num_sms);
  if (kind.empty() || kind == "decode") cuda::BenchAllDecode(num_sms);
  if (kind.empty() || kind == "prompt") cuda::BenchAllVarlen(num_sms);
  return 0;
}

// Times the GPU's linear layers on the matrices of Qwen3-0.6B and 8B: the skinny kernel plain and
// as a programmatic dependent (with and without room for the next kernel's block beside it), the
// wide kernel (its first and its best cut) and cublasLt (its first and its best heuristic). Calls
// run in graph replays over weights rotated past the L2; inputs are random. Prints microseconds a
// call, node gap included, beside the limit: reading the weights at 3.0 TB/s, or the
// multiplication.
//
//   cuda_linear_bench [--fp8] [--layer] [--candidates=8] [--rows=1,2,4,8,16] [--model=8B]
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/linear/cublaslt.h"
#include "kernels/cuda/linear/linear.h"
#include "kernels/cuda/linear/skinny.h"
#include "kernels/cuda/linear/wide.h"
#include "kernels/cuda/norm/add_rms_norm.h"

namespace {

using mili::kernels::cuda::CublasLt;
using mili::kernels::cuda::LinearParams;
using mili::kernels::cuda::MatmulProblem;
using mili::kernels::cuda::SkinnyDevice;
using mili::kernels::cuda::WideCut;

constexpr double kBytesPerUs = 3.0e6;
constexpr size_t kWorkspaceBytes = size_t{64} << 20;
constexpr size_t kMaxRows = 1024;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

struct Matrix {
  const char* model;
  const char* name;
  int n;
  int k;
  bool silu_mul;
  bool has_add;
  bool is_head;
};

constexpr Matrix kMatrices[] = {
    {"0.6B", "qkv", 4096, 1024, false, false, false},
    {"0.6B", "o", 1024, 2048, false, true, false},
    {"0.6B", "gate+up", 6144, 1024, true, false, false},
    {"0.6B", "down", 1024, 3072, false, true, false},
    {"8B", "qkv", 6144, 4096, false, false, false},
    {"8B", "o", 4096, 4096, false, true, false},
    {"8B", "gate+up", 24576, 4096, true, false, false},
    {"8B", "down", 4096, 12288, false, true, false},
    {"head", "0.6B", 151936, 1024, false, false, true},
    {"head", "8B", 151936, 4096, false, false, true},
};

// Random elements: normal as bf16, any small numbers as e4m3.
std::vector<uint16_t> RandomElements(size_t size, float scale, bool is_fp8, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<uint16_t> out(size);
  for (uint16_t& element : out) {
    const float value = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    // Without the highest bit of the exponent an e4m3 is small and never NaN.
    element = is_fp8 ? static_cast<uint16_t>(random() & 0xbfbf) : static_cast<uint16_t>(bits >> 16);
  }
  return out;
}

// Fills `bytes` of device memory with repetitions of random elements.
void Fill(void* to, size_t bytes, float scale, bool is_fp8, uint32_t seed) {
  const std::vector<uint16_t> block = RandomElements((size_t{8} << 20) + 104, scale, is_fp8, seed);
  for (size_t done = 0; done < bytes; done += block.size() * 2) {
    Check(cudaMemcpy(static_cast<char*>(to) + done, block.data(),
                     std::min(bytes - done, block.size() * 2), cudaMemcpyHostToDevice),
          "fill");
  }
}

class Bench {
 public:
  explicit Bench(bool is_fp8) : is_fp8_(is_fp8) {
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    Check(cudaEventCreate(&start_), "event");
    Check(cudaEventCreate(&stop_), "event");
    Check(cudaMalloc(&weights_, kPoolBytes), "weights");
    Check(cudaMalloc(&x_, kMaxRows * 16384 * 2), "x");
    Check(cudaMalloc(&add_, kMaxRows * 32768 * 2), "add");
    Check(cudaMalloc(&y_, size_t{256} * 151936 * 4), "y");
    Check(cudaMalloc(&scales_, 151936 * 4), "scales");
    Check(cudaMalloc(&x8_, kMaxRows * 16384), "x8");
    Check(cudaMalloc(&workspace_, kWorkspaceBytes), "workspace");
    Fill(weights_, kPoolBytes, 0.02f, is_fp8, 1);
    Fill(x_, kMaxRows * 16384 * 2, 1.0f, false, 2);
    Fill(x8_, kMaxRows * 16384, 1.0f, true, 4);
    Fill(add_, kMaxRows * 32768 * 2, 1.0f, false, 3);
    Check(cudaMemset(scales_, 0x3c, 151936 * 4), "scales");
    Check(GetSkinnyDevice(0, &device_), "device");
    Check(PrepareSkinny(device_), "skinny");
    Check(PrepareWide(device_), "wide");
    std::string error;
    lt_ = CublasLt::Open("", &error);
    if (lt_ == nullptr) std::fprintf(stderr, "no cublasLt: %s\n", error.c_str());
    Check(cudaDeviceSynchronize(), "fill");
  }

  LinearParams Params(const Matrix& matrix, int rows, size_t copy, bool is_fp8) const {
    LinearParams p;
    p.x = x_;
    p.x_stride = matrix.k;
    p.w = static_cast<const char*>(weights_) + copy * Bytes(matrix);
    p.y = y_;
    p.y_stride = matrix.n;
    p.num_rows = rows;
    p.n = matrix.n;
    p.k = matrix.k;
    p.is_y_f32 = matrix.is_head;
    p.silu_mul = matrix.silu_mul;
    p.add = matrix.has_add ? add_ : nullptr;
    p.add_stride = matrix.n;
    p.w_scales = is_fp8 ? static_cast<const float*>(scales_) : nullptr;
    return p;
  }

  // Microseconds of one call, the median of 7 replays; negative if the calls fail.
  double Time(const Matrix& matrix, const std::function<cudaError_t(size_t copy, int i)>& call,
              int num_calls = 0) {
    const size_t copies = std::min<size_t>(32, kPoolBytes / Bytes(matrix));
    if (num_calls == 0) num_calls = matrix.is_head ? 20 : 32;
    if (call(0, 0) != cudaSuccess) return -1;
    Check(cudaStreamSynchronize(stream_), matrix.name);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < num_calls; ++i) Check(call(i % copies, i), "captured call");
    Check(cudaStreamEndCapture(stream_, &graph), "capture");
    Check(cudaGraphInstantiate(&exec, graph, 0), "graph");
    std::vector<double> times;
    for (int repeat = 0; repeat < 9; ++repeat) {
      Check(cudaEventRecord(start_, stream_), "event");
      Check(cudaGraphLaunch(exec, stream_), "launch");
      Check(cudaEventRecord(stop_, stream_), "event");
      Check(cudaEventSynchronize(stop_), matrix.name);
      float ms = 0;
      Check(cudaEventElapsedTime(&ms, start_, stop_), "time");
      if (repeat >= 2) times.push_back(ms * 1e3 / num_calls);
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  // Paired: with room for the next kernel's block beside each of ours.
  double Skinny(const Matrix& matrix, int rows, bool pdl, bool paired) {
    SkinnyDevice device = device_;
    if (!paired) device.paired_shared_bytes = 0;
    return Time(matrix, [&, device](size_t copy, int i) {
      LinearParams p = Params(matrix, rows, copy, is_fp8_);
      p.pdl = pdl && i > 0;
      return SkinnyLinear(p, device, stream_);
    });
  }

  // With rows of the weights' type.
  LinearParams RowParams(const Matrix& matrix, int rows) const {
    LinearParams p = Params(matrix, rows, 0, is_fp8_);
    if (is_fp8_) {
      p.x = x8_;
      p.x_scales = static_cast<const float*>(scales_);
    }
    return p;
  }

  // The cut that is taken untuned, and the best one.
  void Wide(const Matrix& matrix, int rows, double* first, double* best, WideCut* best_cut) {
    *first = *best = -1;
    const LinearParams shape = RowParams(matrix, rows);
    for (const WideCut& cut : WideCuts(shape, device_)) {
      const double us = Time(matrix, [&](size_t copy, int i) {
        LinearParams p = shape;
        p.w = static_cast<const char*>(weights_) + copy * Bytes(matrix);
        p.pdl = i > 0;
        return WideLinear(p, cut, device_, stream_);
      });
      if (us < 0) continue;
      if (*first < 0) *first = us;
      if (*best >= 0 && us >= *best) continue;
      *best = us;
      *best_cut = cut;
    }
  }

  // The first heuristic, and the best of `max_count`.
  void Library(const Matrix& matrix, int rows, int max_count, double* first, double* best) {
    *first = *best = -1;
    if (lt_ == nullptr) return;
    LinearParams shape = RowParams(matrix, rows);
    shape.silu_mul = false;
    const MatmulProblem problem(*lt_, shape);
    for (const cublasLtMatmulAlgo_t& algo : problem.Candidates(kWorkspaceBytes, max_count)) {
      const double us = Time(matrix, [&](size_t copy, int) {
        LinearParams p = shape;
        p.w = static_cast<const char*>(weights_) + copy * Bytes(matrix);
        return problem.Run(p, algo, workspace_, kWorkspaceBytes, stream_);
      });
      if (us < 0) continue;
      if (*first < 0) *first = us;
      if (*best < 0 || us < *best) *best = us;
    }
  }

  // How a layer's chain of products runs.
  struct Chain {
    bool pdl = true;
    bool is_paired = true;
    bool fuses_norm = true;  // else two norm kernels besides
    bool is_wide = false;
  };

  // Microseconds of the four products of a layer and its two norms, each reading what the one
  // before it wrote: over as many layers as the pool holds, 28 at most.
  double Layer(const Matrix* matrices, int rows, const Chain& chain) {
    const size_t layer_bytes =
        Bytes(matrices[0]) + Bytes(matrices[1]) + Bytes(matrices[2]) + Bytes(matrices[3]);
    const size_t layers = std::min<size_t>(28, kPoolBytes / layer_bytes);
    char* const out[] = {static_cast<char*>(y_), static_cast<char*>(add_),
                         static_cast<char*>(y_) + (size_t{64} << 20), static_cast<char*>(add_)};
    char* const normed = out[2] + (size_t{32} << 20);
    SkinnyDevice device = device_;
    if (!chain.is_paired) device.paired_shared_bytes = 0;
    const auto call = [&](size_t, int i) {
      const size_t layer = i / 4 % layers;
      size_t offset = layer * layer_bytes;
      for (int j = 0; j < i % 4; ++j) offset += Bytes(matrices[j]);
      const Matrix& matrix = matrices[i % 4];
      LinearParams p = Params(matrix, rows, 0, is_fp8_);
      p.w = static_cast<const char*>(weights_) + offset;
      p.x = out[(i + 3) % 4];
      p.y = out[i % 4];
      p.pdl = chain.pdl && i > 0;
      if (i % 4 == 2) p.y_stride = matrix.n / 2;
      // Attention's place: o reads the first of qkv's columns.
      if (i % 4 == 1) p.x_stride = matrices[0].n;
      if (i % 2 == 0 && chain.fuses_norm) {
        p.norm_weight = x_;
        p.norm_eps = 1e-6f;
      } else if (i % 2 == 0) {
        const cudaError_t error = mili::kernels::cuda::AddRmsNorm({.residual = out[(i + 3) % 4],
                                                                   .weight = x_,
                                                                   .num_tokens = rows,
                                                                   .hidden_size = matrix.k,
                                                                   .out = normed,
                                                                   .pdl = p.pdl},
                                                                  stream_);
        if (error != cudaSuccess) return error;
        p.x = normed;
        p.pdl = chain.pdl;
      }
      return chain.is_wide ? WideLinear(p, WideCuts(p, device).front(), device, stream_)
                           : SkinnyLinear(p, device, stream_);
    };
    Matrix whole = matrices[2];
    whole.name = "layer";
    return 4 * Time(whole, call, static_cast<int>(4 * layers));
  }

  // The longer of reading the weights and multiplying, at the rates that were measured.
  double LimitUs(const Matrix& matrix, int rows) const {
    const double tera_flops = is_fp8_ ? 1450.0 : 790.0;
    return std::max(static_cast<double>(Bytes(matrix)) / kBytesPerUs,
                    2.0 * rows * matrix.n * matrix.k / (tera_flops * 1e6));
  }

  size_t Bytes(const Matrix& matrix) const {
    return static_cast<size_t>(matrix.n) * matrix.k * (is_fp8_ ? 1 : 2);
  }

 private:
  static constexpr size_t kPoolBytes = size_t{1300} << 20;

  bool is_fp8_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t stop_ = nullptr;
  void* weights_ = nullptr;
  void* x_ = nullptr;
  void* add_ = nullptr;
  void* y_ = nullptr;
  void* scales_ = nullptr;
  void* x8_ = nullptr;
  void* workspace_ = nullptr;
  SkinnyDevice device_;
  std::unique_ptr<CublasLt> lt_;
};

}  // namespace

int main(int argc, char** argv) {
  bool is_fp8 = false;
  bool is_chain = false;
  std::string model;
  int candidates = 0;
  std::vector<int> rows = {1, 2, 4, 8, 16};
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--fp8") is_fp8 = true;
    if (arg == "--layer") is_chain = true;
    if (arg.rfind("--model=", 0) == 0) model = arg.substr(8);
    if (arg.rfind("--candidates=", 0) == 0) candidates = std::atoi(arg.c_str() + 13);
    if (arg.rfind("--rows=", 0) == 0) {
      rows.clear();
      for (const char* p = arg.c_str() + 7; *p != 0; p += *p == ',') {
        rows.push_back(static_cast<int>(std::strtol(p, const_cast<char**>(&p), 10)));
      }
    }
  }
  Bench bench(is_fp8);
  for (int first : {0, 4}) {
    if (!is_chain || (!model.empty() && model != kMatrices[first].model)) continue;
    const Matrix* layer = kMatrices + first;
    double limit = 0.0;
    for (int i = 0; i < 4; ++i) limit += static_cast<double>(bench.Bytes(layer[i])) / kBytesPerUs;
    std::printf("%-5s %4s %8s | %8s %8s %8s %8s | %8s\n", "layer", "rows", "limit", "no pdl", "pdl",
                "unpaired", "norms", "wide");
    for (const int m : rows) {
      const bool is_few = m <= mili::kernels::cuda::kMaxSkinnyRows;
      const double plain = is_few ? bench.Layer(layer, m, {.pdl = false}) : -1;
      const double pdl = is_few ? bench.Layer(layer, m, {}) : -1;
      const double unpaired = is_few ? bench.Layer(layer, m, {.is_paired = false}) : -1;
      const double norms = is_few ? bench.Layer(layer, m, {.fuses_norm = false}) : -1;
      const double wide =
          is_fp8 ? -1 : bench.Layer(layer, m, {.fuses_norm = false, .is_wide = true});
      std::printf("%-5s %4d %8.2f | %8.2f %8.2f %8.2f %8.2f | %8.2f\n", layer->model, m, limit,
                  plain, pdl, unpaired, norms, wide);
    }
  }
  if (is_chain) return 0;
  std::printf("%-5s %-8s %4s | %8s | %8s %8s %8s | %8s %8s %3s | %8s %8s | %6s\n", "model",
              "matrix", "rows", "limit", "skinny", "unpaired", "no pdl", "wide 1st", "wide",
              "cut  ", "lt 1st", "lt", "best %");
  for (const Matrix& matrix : kMatrices) {
    if (!model.empty() && model != matrix.model) continue;
    for (const int m : rows) {
      const double limit = bench.LimitUs(matrix, m);
      const bool is_few = m <= mili::kernels::cuda::kMaxSkinnyRows;
      const double plain = is_few ? bench.Skinny(matrix, m, false, true) : -1;
      const double pdl = is_few ? bench.Skinny(matrix, m, true, true) : -1;
      const double unpaired = is_few ? bench.Skinny(matrix, m, true, false) : -1;
      double wide_first = -1;
      double wide = -1;
      WideCut cut = {0, 0};
      bench.Wide(matrix, m, &wide_first, &wide, &cut);
      double first = -1;
      double library = -1;
      if (candidates > 0) bench.Library(matrix, m, candidates, &first, &library);
      double best = 1e9;
      for (const double us : {pdl, unpaired, wide, library}) {
        if (us > 0) best = std::min(best, us);
      }
      std::printf(
          "%-5s %-8s %4d | %8.2f | %8.2f %8.2f %8.2f | %8.2f %8.2f %d.%d.%d | %8.2f %8.2f | "
          "%5.1f%%\n",
          matrix.model, matrix.name, m, limit, pdl, unpaired, plain, wide_first, wide, cut.groups,
          cut.splits, cut.sharers, first, library, 100 * limit / best);
      std::fflush(stdout);
    }
  }
  return 0;
}

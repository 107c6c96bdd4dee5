#include "kernels/bench/cuda_linear_timer.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "kernels/cuda/linear/gated.h"
#include "kernels/cuda/norm/add_rms_norm.h"

namespace mili::kernels::cuda {
namespace {

constexpr double kBytesPerUs = 3.0e6;
constexpr size_t kPoolBytes = size_t{1300} << 20;
constexpr size_t kWorkspaceBytes = size_t{64} << 20;
constexpr size_t kMaxRows = 2048;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

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

}  // namespace

LinearTimer::LinearTimer(bool is_fp8) : is_fp8_(is_fp8) {
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
  Check(PrepareGated(), "gated");
  std::string error;
  lt_ = CublasLt::Open("", &error);
  if (lt_ == nullptr) std::fprintf(stderr, "no cublasLt: %s\n", error.c_str());
  Check(cudaDeviceSynchronize(), "fill");
}

LinearParams LinearTimer::Params(const BenchMatrix& matrix, int rows, size_t copy) const {
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
  p.w_scales = is_fp8_ ? static_cast<const float*>(scales_) : nullptr;
  return p;
}

LinearParams LinearTimer::RowParams(const BenchMatrix& matrix, int rows) const {
  LinearParams p = Params(matrix, rows, 0);
  if (is_fp8_) {
    p.x = x8_;
    p.x_scales = static_cast<const float*>(scales_);
  }
  return p;
}

double LinearTimer::Time(const BenchMatrix& matrix,
                         const std::function<cudaError_t(size_t copy, int i)>& call,
                         int num_calls) {
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

double LinearTimer::Skinny(const BenchMatrix& matrix, int rows, bool pdl, bool is_paired) {
  SkinnyDevice device = device_;
  if (!is_paired) device.paired_shared_bytes = 0;
  return Time(matrix, [&, device](size_t copy, int i) {
    LinearParams p = Params(matrix, rows, copy);
    p.pdl = pdl && i > 0;
    return SkinnyLinear(p, device, stream_);
  });
}

std::vector<LinearTimer::CutTime> LinearTimer::Wide(const BenchMatrix& matrix, int rows) {
  std::vector<CutTime> times;
  const LinearParams shape = RowParams(matrix, rows);
  for (const WideCut& cut : WideCuts(shape, device_)) {
    const double us = Time(matrix, [&](size_t copy, int i) {
      LinearParams p = shape;
      p.w = static_cast<const char*>(weights_) + copy * Bytes(matrix);
      p.pdl = i > 0;
      return WideLinear(p, cut, device_, stream_);
    });
    times.push_back({cut, us});
  }
  return times;
}

double LinearTimer::Gated(const BenchMatrix& matrix, int rows, int groups) {
  const LinearParams shape = RowParams(matrix, rows);
  return Time(matrix, [&](size_t copy, int i) {
    LinearParams p = shape;
    p.w = static_cast<const char*>(weights_) + copy * Bytes(matrix);
    p.pdl = i > 0;
    return GatedLinear(p, groups, device_, stream_);
  });
}

std::vector<double> LinearTimer::Library(const BenchMatrix& matrix, int rows, int max_count) {
  std::vector<double> times;
  if (lt_ == nullptr) return times;
  LinearParams shape = RowParams(matrix, rows);
  shape.silu_mul = false;
  const MatmulProblem problem(*lt_, shape);
  for (const cublasLtMatmulAlgo_t& algo : problem.Candidates(kWorkspaceBytes, max_count)) {
    times.push_back(Time(matrix, [&](size_t copy, int) {
      LinearParams p = shape;
      p.w = static_cast<const char*>(weights_) + copy * Bytes(matrix);
      return problem.Run(p, algo, workspace_, kWorkspaceBytes, stream_);
    }));
  }
  return times;
}

double LinearTimer::Layer(const BenchMatrix* matrices, int rows, const Chain& chain) {
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
    const BenchMatrix& matrix = matrices[i % 4];
    LinearParams p = Params(matrix, rows, 0);
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
      const cudaError_t error = AddRmsNorm({.residual = out[(i + 3) % 4],
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
  BenchMatrix whole = matrices[2];
  whole.name = "layer";
  return 4 * Time(whole, call, static_cast<int>(4 * layers));
}

double LinearTimer::LimitUs(const BenchMatrix& matrix, int rows) const {
  const double tera_flops = is_fp8_ ? 1450.0 : 790.0;
  return std::max(static_cast<double>(Bytes(matrix)) / kBytesPerUs,
                  2.0 * rows * matrix.n * matrix.k / (tera_flops * 1e6));
}

size_t LinearTimer::Bytes(const BenchMatrix& matrix) const {
  return static_cast<size_t>(matrix.n) * matrix.k * (is_fp8_ ? 1 : 2);
}

}  // namespace mili::kernels::cuda

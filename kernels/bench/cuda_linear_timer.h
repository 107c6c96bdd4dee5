// LinearTimer: times single products and chains of them on one GPU, by any of the kernels, in graph
// replays over weights rotated past the L2, with random inputs. For one thread; ends the program
// when the GPU fails.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <vector>

#include "kernels/cuda/linear/cublaslt.h"
#include "kernels/cuda/linear/linear.h"
#include "kernels/cuda/linear/skinny.h"
#include "kernels/cuda/linear/wide.h"

namespace mili::kernels::cuda {

// A matrix of a model and what is done with its product.
struct BenchMatrix {
  const char* model;
  const char* name;
  int n;
  int k;
  bool silu_mul;
  bool has_add;
  bool is_head;
};

// All times are microseconds of a call, node gap included, and the median of 7 replays; negative
// where a kernel does not take the call.
class LinearTimer {
 public:
  explicit LinearTimer(bool is_fp8);

  // `is_paired`: with room for the next kernel's block beside each of ours, where that is planned.
  double Skinny(const BenchMatrix& matrix, int rows, bool pdl, bool is_paired);

  struct CutTime {
    WideCut cut;
    double us;
  };
  // As programmatic dependents, in the order of WideCuts.
  std::vector<CutTime> Wide(const BenchMatrix& matrix, int rows);

  // In tiles of `groups` x 64 weight rows, as programmatic dependents.
  double Gated(const BenchMatrix& matrix, int rows, int groups);

  // At most `max_count` algorithms, in the library's order; silu_mul is left out.
  std::vector<double> Library(const BenchMatrix& matrix, int rows, int max_count);

  // How a layer's chain of products runs.
  struct Chain {
    bool pdl = true;
    bool is_paired = true;
    bool fuses_norm = true;  // else two norm kernels besides
    bool is_wide = false;
  };
  // The four products of a layer and its two norms, each reading what the one before it wrote: over
  // as many layers as there is memory for, 28 at most. Microseconds of a layer.
  double Layer(const BenchMatrix* matrices, int rows, const Chain& chain);

  // The longer of reading the weights and multiplying, at the rates that an H100 was seen to reach:
  // 3.0 TB/s, 790 TFLOP/s (bf16), 1450 (fp8).
  double LimitUs(const BenchMatrix& matrix, int rows) const;

 private:
  size_t Bytes(const BenchMatrix& matrix) const;
  LinearParams Params(const BenchMatrix& matrix, int rows, size_t copy) const;
  // The same with rows of the weights' type.
  LinearParams RowParams(const BenchMatrix& matrix, int rows) const;
  double Time(const BenchMatrix& matrix, const std::function<cudaError_t(size_t copy, int i)>& call,
              int num_calls = 0);

  const bool is_fp8_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t stop_ = nullptr;
  void* weights_ = nullptr;
  void* x_ = nullptr;
  void* x8_ = nullptr;
  void* add_ = nullptr;
  void* y_ = nullptr;
  void* scales_ = nullptr;
  void* workspace_ = nullptr;
  SkinnyDevice device_;
  std::unique_ptr<CublasLt> lt_;
};

}  // namespace mili::kernels::cuda

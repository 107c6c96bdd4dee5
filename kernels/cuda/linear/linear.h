// y = x W^T on the GPU, by whichever kernel was measured or is known to be fastest for the shape:
// the skinny kernel (skinny.h, up to 16 rows), the wide kernel (wide.h, up to 256), the gated
// kernel (gated.h, gate and up of many rows) or cublasLt.
//
// A context belongs to one stream and is used by one thread at a time. It is made once, allocates
// its workspace then, and nothing after: every call may be captured in a graph. Two calls that may
// run at once on the device need two contexts. No pointer of the params is read by the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/dtype.h"

namespace mili::kernels::cuda {

// Up to this many rows the skinny kernel runs, and fp8 weights may be multiplied by 16-bit rows.
inline constexpr int32_t kMaxSkinnyRows = 16;

// Up to so many rows the latter is faster than making fp8 rows first (measured on an H100).
inline constexpr int32_t kMaxMixedRows = 8;

// Up to this many rows timing a product does not decide what runs it on Hopper, but for logits:
// alone, a kernel does not show what it gains by starting while the one ahead of it ends.
inline constexpr int32_t kMaxUntimedRows = 64;

// y[m, n] = sum_k x[m, k] w[n, k] (+ bias[n]) (+ add[m, n]), accumulated in fp32 and rounded once.
//
// Alignment: x, w, y, add and their row strides to 16 bytes, bias and w_scales to 16 bytes, k a
// multiple of 8 (16 for fp8), n of 8.
struct LinearParams {
  DType dtype = DType::kBF16;  // kBF16 or kF16: x, w, bias, add, and y unless is_y_f32
  bool is_y_f32 = false;       // y is float (logits); then add must be null

  const void* x = nullptr;     // [num_rows, k]
  int64_t x_stride = 0;        // elements from one row to the next, >= k
  const void* w = nullptr;     // [n, k], contiguous
  const void* bias = nullptr;  // [n] or null
  const void* add = nullptr;  // [num_rows, n] or null; may be y itself (then add_stride = y_stride)
  int64_t add_stride = 0;
  void* y = nullptr;  // [num_rows, n]; with silu_mul [num_rows, n / 2]
  int64_t y_stride = 0;
  int32_t num_rows = 0;  // >= 1
  int32_t n = 0;
  int32_t k = 0;

  // w's rows are gate and up in turns of 8 (rows 16g..16g+7 gate, 16g+8..16g+15 up) and
  // y[m, 8g + i] = silu(gate) * up. Only where FusesSiluMul says so; without bias and add.
  bool silu_mul = false;

  // Not null: x stands for x / rms(x) * norm_weight, rms(v) = sqrt(mean(v^2) + norm_eps), rounded
  // to `dtype` before and after the weight. Only where FusesNorm says so; 16-aligned.
  const void* norm_weight = nullptr;  // [k]
  float norm_eps = 0.0f;

  // fp8 (e4m3): w holds bytes and row n stands for w_scales[n] * w[n]. With x_scales x holds e4m3
  // bytes too and row m stands for x_scales[m] * x[m]; without, x is 16-bit, for at most
  // kMaxSkinnyRows rows.
  const float* w_scales = nullptr;  // [n] or null: w is of `dtype`
  const float* x_scales = nullptr;  // [num_rows] or null: x is of `dtype`

  // Launch as a programmatic dependent of the kernel before it, where this call's kernel can wait
  // for it by itself; weights are then fetched while that kernel still runs.
  bool pdl = false;
};

struct LinearOptions {
  // Path or name of cublasLt; empty: libcublasLt.so.13 as the loader finds it, then the usual
  // folders of a toolkit.
  std::string cublaslt_path;
  size_t workspace_bytes = size_t{32} << 20;
};

// A shape to tune: the call as it will be made, y being overwritten.
struct LinearTuneRequest {
  LinearParams params;
  std::vector<const void*>
      weights;  // that take turns, so that none comes from the L2; may be empty
};

class LinearContext {
 public:
  // Opens cublasLt on the current device and allocates the workspace. Null, and the reason with its
  // remedy in *error, when the library or the memory is not there.
  static std::unique_ptr<LinearContext> Create(const LinearOptions& options, std::string* error);
  ~LinearContext();

  // Whether a call of this shape may ask for silu_mul, or give a norm_weight (whatever it says
  // now).
  bool FusesSiluMul(const LinearParams& params) const;
  bool FusesNorm(const LinearParams& params) const;

  // cudaErrorInvalidValue for a shape that the contract above forbids, cudaErrorNotSupported when
  // cublasLt has no algorithm for it.
  cudaError_t Linear(const LinearParams& params, cudaStream_t stream);

  // Times the kernels that could run the shapes that the table does not hold, and keeps the
  // fastest. Begins no shape once `max_seconds` have passed; one takes 5 to 50 ms. Blocks; not in a
  // capture. Calls with fewer rows, down to half, use a shape's choice too.
  cudaError_t Tune(const std::vector<LinearTuneRequest>& requests, double max_seconds,
                   cudaStream_t stream);
  // What was tuned, as a text to keep in a file, and back. Restoring a text that is damaged or from
  // another GPU, driver or library gives false and the reason, and leaves nothing tuned.
  std::string SaveTuning() const;
  bool RestoreTuning(std::string_view text, std::string* error);

  // Of cublasLt, as cublasLtGetVersion gives it: 130000 is 13.0.0.
  size_t cublaslt_version() const;

 private:
  struct State;
  explicit LinearContext(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace mili::kernels::cuda

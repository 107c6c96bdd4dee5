// cublasLt, opened at run time so that the program starts without it. Owns the handle of the
// library and nothing on the device; any thread once it is open. Never tunes: tuning.h does.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/linear/linear.h"

namespace mili::kernels::cuda {

// The functions of the library that are used, under their own names less the prefix.
struct CublasLtApi {
  decltype(&cublasLtCreate) Create = nullptr;
  decltype(&cublasLtDestroy) Destroy = nullptr;
  decltype(&cublasLtGetVersion) GetVersion = nullptr;
  decltype(&cublasLtMatmul) Matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) MatmulAlgoGetHeuristic = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) MatmulAlgoCheck = nullptr;
  decltype(&cublasLtMatmulDescCreate) MatmulDescCreate = nullptr;
  decltype(&cublasLtMatmulDescDestroy) MatmulDescDestroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) MatmulDescSetAttribute = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) MatrixLayoutCreate = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) MatrixLayoutDestroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) MatmulPreferenceCreate = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) MatmulPreferenceDestroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) MatmulPreferenceSetAttribute = nullptr;
};

class CublasLt {
 public:
  // `path` as LinearOptions::cublaslt_path. Null and the reason in *error when no library opens or
  // it is not of CUDA 13.
  static std::unique_ptr<CublasLt> Open(const std::string& path, std::string* error);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  const CublasLtApi& api() const { return api_; }
  cublasLtHandle_t handle() const { return handle_; }
  size_t version() const { return api_.GetVersion(); }

 private:
  CublasLt() = default;

  void* library_ = nullptr;
  CublasLtApi api_;
  cublasLtHandle_t handle_ = nullptr;
};

// The descriptors of one product, in the library's column-major terms: D[n, m] = W^T x + C.
class MatmulProblem {
 public:
  // The pointers of `params` matter for the scales and the bias alone.
  MatmulProblem(const CublasLt& lt, const LinearParams& params);
  ~MatmulProblem();
  MatmulProblem(const MatmulProblem&) = delete;
  MatmulProblem& operator=(const MatmulProblem&) = delete;

  bool is_valid() const { return is_valid_; }

  // At most `max_count` algorithms that the library takes for the fastest, best first.
  std::vector<cublasLtMatmulAlgo_t> Candidates(size_t workspace_bytes, int max_count) const;
  // Whether the algorithm can run this problem within the workspace.
  bool Accepts(const cublasLtMatmulAlgo_t& algo, size_t workspace_bytes) const;

  cudaError_t Run(const LinearParams& params, const cublasLtMatmulAlgo_t& algo, void* workspace,
                  size_t workspace_bytes, cudaStream_t stream) const;

 private:
  bool Describe(const LinearParams& params);

  const CublasLt& lt_;
  bool is_valid_ = false;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr;
  cublasLtMatrixLayout_t x_ = nullptr;
  cublasLtMatrixLayout_t c_ = nullptr;
  cublasLtMatrixLayout_t y_ = nullptr;
};

}  // namespace mili::kernels::cuda

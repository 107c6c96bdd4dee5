#include "kernels/cuda/linear/cublaslt.h"

#include <dlfcn.h>

namespace mili::kernels::cuda {
namespace {

constexpr size_t kOldestVersion = 130000;

constexpr const char* kPaths[] = {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13",
                                  "/usr/local/cuda-13.0/lib64/libcublasLt.so.13"};

template <typename Function>
bool Load(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

bool LoadAll(void* library, CublasLtApi* api) {
  return Load(library, "cublasLtCreate", &api->Create) &&
         Load(library, "cublasLtDestroy", &api->Destroy) &&
         Load(library, "cublasLtGetVersion", &api->GetVersion) &&
         Load(library, "cublasLtMatmul", &api->Matmul) &&
         Load(library, "cublasLtMatmulAlgoGetHeuristic", &api->MatmulAlgoGetHeuristic) &&
         Load(library, "cublasLtMatmulAlgoCheck", &api->MatmulAlgoCheck) &&
         Load(library, "cublasLtMatmulDescCreate", &api->MatmulDescCreate) &&
         Load(library, "cublasLtMatmulDescDestroy", &api->MatmulDescDestroy) &&
         Load(library, "cublasLtMatmulDescSetAttribute", &api->MatmulDescSetAttribute) &&
         Load(library, "cublasLtMatrixLayoutCreate", &api->MatrixLayoutCreate) &&
         Load(library, "cublasLtMatrixLayoutDestroy", &api->MatrixLayoutDestroy) &&
         Load(library, "cublasLtMatmulPreferenceCreate", &api->MatmulPreferenceCreate) &&
         Load(library, "cublasLtMatmulPreferenceDestroy", &api->MatmulPreferenceDestroy) &&
         Load(library, "cublasLtMatmulPreferenceSetAttribute", &api->MatmulPreferenceSetAttribute);
}

cudaDataType_t TypeOf(DType dtype) { return dtype == DType::kF16 ? CUDA_R_16F : CUDA_R_16BF; }

bool IsOk(cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS; }

}  // namespace

std::unique_ptr<CublasLt> CublasLt::Open(const std::string& path, std::string* error) {
  std::unique_ptr<CublasLt> lt(new CublasLt);
  if (!path.empty()) {
    lt->library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  } else {
    for (const char* candidate : kPaths) {
      lt->library_ = dlopen(candidate, RTLD_NOW | RTLD_LOCAL);
      if (lt->library_ != nullptr) break;
    }
  }
  if (lt->library_ == nullptr) {
    const char* reason = dlerror();
    *error = std::string("cannot open cublasLt of CUDA 13 (") + (reason ? reason : "unknown") +
             "); install the CUDA 13 runtime libraries or set LD_LIBRARY_PATH";
    return nullptr;
  }
  if (!LoadAll(lt->library_, &lt->api_)) {
    *error = "cublasLt lacks a function; it is not the library of CUDA 13";
    return nullptr;
  }
  if (lt->version() < kOldestVersion) {
    *error = "cublasLt " + std::to_string(lt->version()) + " is too old; 13.0 or newer is needed";
    return nullptr;
  }
  if (!IsOk(lt->api_.Create(&lt->handle_))) {
    lt->handle_ = nullptr;
    *error = "cublasLt cannot start on this device";
    return nullptr;
  }
  return lt;
}

// The library itself stays open: it registers exit handlers of its own.
CublasLt::~CublasLt() {
  if (handle_ != nullptr) api_.Destroy(handle_);
}

MatmulProblem::MatmulProblem(const CublasLt& lt, const LinearParams& params) : lt_(lt) {
  is_valid_ = Describe(params);
}

MatmulProblem::~MatmulProblem() {
  for (const cublasLtMatrixLayout_t layout : {w_, x_, c_, y_}) {
    if (layout != nullptr) lt_.api().MatrixLayoutDestroy(layout);
  }
  if (desc_ != nullptr) lt_.api().MatmulDescDestroy(desc_);
}

bool MatmulProblem::Describe(const LinearParams& p) {
  const CublasLtApi& api = lt_.api();
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    return IsOk(api.MatmulDescSetAttribute(desc_, attribute, &value, sizeof(value)));
  };
  if (!IsOk(api.MatmulDescCreate(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F))) return false;
  if (!set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T)) return false;
  if (!set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N)) return false;
  if (p.bias != nullptr) {
    if (!set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS)) return false;
    if (!set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias)) return false;
    if (!set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, TypeOf(p.dtype))) return false;
  }
  if (p.x_scales != nullptr) {
    const cublasLtMatmulMatrixScale_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    const int8_t fast = 1;
    if (!set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode)) return false;
    if (!set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode)) return false;
    if (!set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.w_scales)) return false;
    if (!set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.x_scales)) return false;
    if (!set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, fast)) return false;
  }
  const cudaDataType_t in = p.x_scales != nullptr ? CUDA_R_8F_E4M3 : TypeOf(p.dtype);
  const cudaDataType_t out = p.is_y_f32 ? CUDA_R_32F : TypeOf(p.dtype);
  const int64_t c_stride = p.add != nullptr ? p.add_stride : p.y_stride;
  const uint64_t n = static_cast<uint64_t>(p.n);
  const uint64_t k = static_cast<uint64_t>(p.k);
  const uint64_t m = static_cast<uint64_t>(p.num_rows);
  return IsOk(api.MatrixLayoutCreate(&w_, in, k, n, p.k)) &&
         IsOk(api.MatrixLayoutCreate(&x_, in, k, m, p.x_stride)) &&
         IsOk(api.MatrixLayoutCreate(&c_, out, n, m, c_stride)) &&
         IsOk(api.MatrixLayoutCreate(&y_, out, n, m, p.y_stride));
}

std::vector<cublasLtMatmulAlgo_t> MatmulProblem::Candidates(size_t workspace_bytes,
                                                            int max_count) const {
  const CublasLtApi& api = lt_.api();
  std::vector<cublasLtMatmulHeuristicResult_t> results(max_count);
  int count = 0;
  cublasLtMatmulPreference_t preference = nullptr;
  if (IsOk(api.MatmulPreferenceCreate(&preference))) {
    const uint64_t bytes = workspace_bytes;
    api.MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                     sizeof(bytes));
    if (!IsOk(api.MatmulAlgoGetHeuristic(lt_.handle(), desc_, w_, x_, c_, y_, preference, max_count,
                                         results.data(), &count))) {
      count = 0;
    }
    api.MatmulPreferenceDestroy(preference);
  }
  std::vector<cublasLtMatmulAlgo_t> algos;
  for (int i = 0; i < count; ++i) {
    if (IsOk(results[i].state) && results[i].workspaceSize <= workspace_bytes) {
      algos.push_back(results[i].algo);
    }
  }
  return algos;
}

bool MatmulProblem::Accepts(const cublasLtMatmulAlgo_t& algo, size_t workspace_bytes) const {
  cublasLtMatmulHeuristicResult_t result = {};
  return IsOk(lt_.api().MatmulAlgoCheck(lt_.handle(), desc_, w_, x_, c_, y_, &algo, &result)) &&
         result.workspaceSize <= workspace_bytes;
}

cudaError_t MatmulProblem::Run(const LinearParams& p, const cublasLtMatmulAlgo_t& algo,
                               void* workspace, size_t workspace_bytes, cudaStream_t stream) const {
  const float one = 1.0f;
  const float beta = p.add != nullptr ? 1.0f : 0.0f;
  const void* c = p.add != nullptr ? p.add : p.y;
  const cublasStatus_t status =
      lt_.api().Matmul(lt_.handle(), desc_, &one, p.w, w_, p.x, x_, &beta, c, c_, p.y, y_, &algo,
                       workspace, workspace_bytes, stream);
  if (IsOk(status)) return cudaSuccess;
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return cudaErrorNotSupported;
  const cudaError_t error = cudaGetLastError();
  return error != cudaSuccess ? error : cudaErrorUnknown;
}

}  // namespace mili::kernels::cuda

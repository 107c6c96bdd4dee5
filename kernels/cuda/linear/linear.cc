#include "kernels/cuda/linear/linear.h"

#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include "kernels/cuda/linear/algo_table.h"
#include "kernels/cuda/linear/cublaslt.h"
#include "kernels/cuda/linear/skinny.h"
#include "kernels/cuda/linear/tuner.h"

namespace mili::kernels::cuda {
namespace {

// What an algorithm was checked for: the shape and the strides.
struct CheckedShape {
  MatmulShape shape;
  int64_t x_stride;
  int64_t y_stride;
  int64_t add_stride;

  auto Key() const { return std::tie(shape, x_stride, y_stride, add_stride); }
  bool operator<(const CheckedShape& other) const { return Key() < other.Key(); }
};

MatmulShape ShapeOf(const LinearParams& p) {
  MatmulShape shape;
  shape.dtype = p.dtype;
  shape.is_y_f32 = p.is_y_f32;
  shape.is_fp8 = p.x_scales != nullptr;
  shape.has_bias = p.bias != nullptr;
  shape.has_add = p.add != nullptr;
  shape.n = p.n;
  shape.k = p.k;
  shape.num_rows = p.num_rows;
  return shape;
}

// A server meets few shapes but for the row counts of prefill; more than this are forgotten.
constexpr size_t kMaxShapes = 8192;

bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

bool KeepsContract(const LinearParams& p) {
  const int k_alignment = p.w_scales != nullptr ? 16 : 8;
  const int x_alignment = p.x_scales != nullptr ? 16 : 8;
  if (p.dtype != DType::kBF16 && p.dtype != DType::kF16) return false;
  if (p.num_rows < 1 || p.n < 1 || p.k < 1 || p.k % k_alignment != 0 || p.n % 8 != 0) return false;
  if (p.x == nullptr || p.w == nullptr || p.y == nullptr) return false;
  if (!IsAligned(p.x) || !IsAligned(p.w) || !IsAligned(p.y)) return false;
  if (!IsAligned(p.add) || !IsAligned(p.bias) || !IsAligned(p.norm_weight)) return false;
  if (p.x_stride < p.k || p.x_stride % x_alignment != 0) return false;
  if (p.y_stride < (p.silu_mul ? p.n / 2 : p.n) || p.y_stride % (p.is_y_f32 ? 4 : 8) != 0) {
    return false;
  }
  if (p.add != nullptr && (p.is_y_f32 || p.add_stride < p.n || p.add_stride % 8 != 0)) return false;
  return p.x_scales == nullptr || p.w_scales != nullptr;
}

// One line that says where measured choices hold.
std::string IdentityOf(int device, const CublasLt& lt, size_t workspace_bytes) {
  cudaDeviceProp properties = {};
  int driver = 0;
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) return "unknown";
  if (cudaDriverGetVersion(&driver) != cudaSuccess) return "unknown";
  return std::string(properties.name) + ", " + std::to_string(properties.multiProcessorCount) +
         " SMs, driver " + std::to_string(driver) + ", cublasLt " + std::to_string(lt.version()) +
         ", workspace " + std::to_string(workspace_bytes);
}

}  // namespace

struct LinearContext::State {
  std::unique_ptr<CublasLt> lt;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
  bool has_skinny = false;
  SkinnyDevice device;
  std::string identity;  // of GPU, driver and library
  AlgoTable tuned;
  std::map<CheckedShape, cublasLtMatmulAlgo_t> checked;

  ~State() { cudaFree(workspace); }

  bool RunsSkinny(const LinearParams& params) const {
    return has_skinny && SkinnyTakes(params, device);
  }

  bool Choose(const MatmulProblem& problem, const MatmulShape& shape,
              cublasLtMatmulAlgo_t* algo) const {
    if (const AlgoTable::Entry* entry = tuned.Find(shape)) {
      std::memcpy(algo, entry->algo.data(), sizeof(*algo));
      if (problem.Accepts(*algo, workspace_bytes)) return true;
    }
    const auto candidates = problem.Candidates(workspace_bytes, 1);
    if (candidates.empty()) return false;
    *algo = candidates.front();
    return true;
  }

  cudaError_t RunLibrary(const LinearParams& params, cudaStream_t stream) {
    const MatmulProblem problem(*lt, params);
    if (!problem.is_valid()) return cudaErrorNotSupported;
    const CheckedShape key = {ShapeOf(params), params.x_stride, params.y_stride,
                              params.add != nullptr ? params.add_stride : 0};
    auto found = checked.find(key);
    if (found == checked.end()) {
      cublasLtMatmulAlgo_t algo;
      if (!Choose(problem, key.shape, &algo)) return cudaErrorNotSupported;
      if (checked.size() >= kMaxShapes) checked.clear();
      found = checked.emplace(key, algo).first;
    }
    return problem.Run(params, found->second, workspace, workspace_bytes, stream);
  }
};

std::unique_ptr<LinearContext> LinearContext::Create(const LinearOptions& options,
                                                     std::string* error) {
  auto state = std::make_unique<State>();
  const auto fail = [&](const char* what, cudaError_t code) {
    *error = std::string(what) + ": " + cudaGetErrorString(code);
    return nullptr;
  };
  int device = 0;
  int major = 0;
  cudaError_t code = cudaGetDevice(&device);
  if (code == cudaSuccess) {
    code = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  }
  if (code == cudaSuccess) code = GetSkinnyDevice(device, &state->device);
  if (code != cudaSuccess) return fail("cannot read the device's limits", code);
  state->lt = CublasLt::Open(options.cublaslt_path, error);
  if (state->lt == nullptr) return nullptr;
  state->has_skinny = major == 9;
  if (state->has_skinny) {
    code = PrepareSkinny(state->device);
    if (code != cudaSuccess) return fail("cannot load the skinny linear kernels", code);
  }
  code = cudaMalloc(&state->workspace, options.workspace_bytes);
  if (code != cudaSuccess) return fail("cannot allocate the workspace of cublasLt", code);
  state->workspace_bytes = options.workspace_bytes;
  state->identity = IdentityOf(device, *state->lt, options.workspace_bytes);
  return std::unique_ptr<LinearContext>(new LinearContext(std::move(state)));
}

LinearContext::LinearContext(std::unique_ptr<State> state) : state_(std::move(state)) {}

LinearContext::~LinearContext() = default;

bool LinearContext::FusesSiluMul(const LinearParams& params) const {
  LinearParams fused = params;
  fused.silu_mul = true;
  return state_->has_skinny && SkinnyTakes(fused, state_->device);
}

bool LinearContext::FusesNorm(const LinearParams& params) const {
  LinearParams fused = params;
  fused.norm_weight = params.x;
  return state_->has_skinny && SkinnyTakes(fused, state_->device);
}

cudaError_t LinearContext::Linear(const LinearParams& params, cudaStream_t stream) {
  if (!KeepsContract(params)) return cudaErrorInvalidValue;
  if (state_->RunsSkinny(params)) {
    return SkinnyLinear(params, state_->device, stream);
  }
  const bool is_mixed = params.w_scales != nullptr && params.x_scales == nullptr;
  if (params.silu_mul || params.norm_weight != nullptr || is_mixed) return cudaErrorNotSupported;
  return state_->RunLibrary(params, stream);
}

cudaError_t LinearContext::Tune(const std::vector<LinearTuneRequest>& requests,
                                cudaStream_t stream) {
  const TunerOptions options = {state_->workspace, state_->workspace_bytes};
  for (const LinearTuneRequest& request : requests) {
    const LinearParams& params = request.params;
    if (!KeepsContract(params)) return cudaErrorInvalidValue;
    if (state_->RunsSkinny(params)) continue;
    const MatmulShape shape = ShapeOf(params);
    if (state_->tuned.FindExactly(shape) != nullptr) continue;
    AlgoTable::Entry best;
    const cudaError_t error = TuneMatmul(*state_->lt, request, options, stream, &best);
    if (error == cudaErrorNotSupported) continue;
    if (error != cudaSuccess) return error;
    state_->tuned.Set(shape, best);
  }
  state_->checked.clear();
  return cudaSuccess;
}

std::string LinearContext::SaveTuning() const { return state_->tuned.Format(state_->identity); }

bool LinearContext::RestoreTuning(std::string_view text, std::string* error) {
  state_->checked.clear();
  return state_->tuned.Parse(text, state_->identity, error);
}

size_t LinearContext::cublaslt_version() const { return state_->lt->version(); }

}  // namespace mili::kernels::cuda

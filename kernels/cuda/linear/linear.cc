#include "kernels/cuda/linear/linear.h"

#include <chrono>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include "kernels/cuda/linear/algo_table.h"
#include "kernels/cuda/linear/choice.h"
#include "kernels/cuda/linear/cublaslt.h"
#include "kernels/cuda/linear/gated.h"
#include "kernels/cuda/linear/skinny.h"
#include "kernels/cuda/linear/tuner.h"
#include "kernels/cuda/linear/wide.h"

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

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(AlgoTable::Algo));

AlgoTable::Entry EntryOf(const cublasLtMatmulAlgo_t& algo) {
  AlgoTable::Entry entry;
  std::memcpy(entry.algo.data(), &algo, sizeof(algo));
  return entry;
}

constexpr int kMaxAlgorithms = 12;  // of the library, a shape

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
  if (!IsAligned(p.w_scales)) return false;
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
  SkinnyDevice device;
  std::string identity;  // of GPU, driver and library
  std::unique_ptr<KernelChoice> choice;
  std::map<CheckedShape, cublasLtMatmulAlgo_t> checked;  // by the library

  ~State() { cudaFree(workspace); }

  std::vector<AlgoTable::Entry> Candidates(const LinearParams& p) const {
    std::vector<AlgoTable::Entry> candidates = choice->OwnCandidates(p);
    if (!KernelChoice::TakesLibrary(p)) return candidates;
    const MatmulProblem problem(*lt, p);
    if (!problem.is_valid()) return candidates;
    for (const auto& algo : problem.Candidates(workspace_bytes, kMaxAlgorithms)) {
      candidates.push_back(EntryOf(algo));
    }
    return candidates;
  }

  // The algorithm of a tuned entry is checked against the strides of the call, once for each.
  cudaError_t RunLibrary(const LinearParams& params, const AlgoTable::Entry& choice,
                         cudaStream_t stream) {
    const MatmulProblem problem(*lt, params);
    if (!problem.is_valid()) return cudaErrorNotSupported;
    const CheckedShape key = {ShapeOf(params), params.x_stride, params.y_stride,
                              params.add != nullptr ? params.add_stride : 0};
    auto found = checked.find(key);
    if (found == checked.end()) {
      cublasLtMatmulAlgo_t algo;
      std::memcpy(&algo, choice.algo.data(), sizeof(algo));
      if (choice.algo == AlgoTable::Algo{} || !problem.Accepts(algo, workspace_bytes)) {
        const auto candidates = problem.Candidates(workspace_bytes, 1);
        if (candidates.empty()) return cudaErrorNotSupported;
        algo = candidates.front();
      }
      if (checked.size() >= kMaxShapes) checked.clear();
      found = checked.emplace(key, algo).first;
    }
    return problem.Run(params, found->second, workspace, workspace_bytes, stream);
  }

  cudaError_t Run(const LinearParams& params, const AlgoTable::Entry& choice, cudaStream_t stream) {
    switch (choice.kernel) {
      case LinearKernel::kSkinny:
        return SkinnyLinear(params, device, stream);
      case LinearKernel::kWide:
        return WideLinear(params, CutOf(choice), device, stream);
      case LinearKernel::kLibrary:
        return RunLibrary(params, choice, stream);
      case LinearKernel::kGated:
        return GatedLinear(params, GroupsOf(choice), device, stream);
    }
    return cudaErrorInvalidValue;
  }

  // Of the algorithm itself, without what is remembered for its shape.
  cudaError_t Try(const LinearParams& params, const AlgoTable::Entry& candidate,
                  cudaStream_t stream) {
    if (candidate.kernel != LinearKernel::kLibrary) return Run(params, candidate, stream);
    const MatmulProblem problem(*lt, params);
    cublasLtMatmulAlgo_t algo;
    std::memcpy(&algo, candidate.algo.data(), sizeof(algo));
    return problem.Run(params, algo, workspace, workspace_bytes, stream);
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
  const bool is_hopper = major == 9;
  state->choice = std::make_unique<KernelChoice>(is_hopper, state->device);
  if (is_hopper) {
    code = PrepareSkinny(state->device);
    if (code == cudaSuccess) code = PrepareWide(state->device);
    if (code == cudaSuccess) code = PrepareGated();
    if (code != cudaSuccess) return fail("cannot load the linear kernels", code);
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
  return state_->choice->IsFasterFused(fused);
}

bool LinearContext::FusesNorm(const LinearParams& params) const {
  LinearParams fused = params;
  fused.norm_weight = params.x;
  return state_->choice->TakesSkinny(fused);
}

cudaError_t LinearContext::Linear(const LinearParams& params, cudaStream_t stream) {
  if (!KeepsContract(params)) return cudaErrorInvalidValue;
  AlgoTable::Entry choice;
  if (!state_->choice->Choose(params, &choice)) return cudaErrorNotSupported;
  return state_->Run(params, choice, stream);
}

cudaError_t LinearContext::Tune(const std::vector<LinearTuneRequest>& requests, double max_seconds,
                                cudaStream_t stream) {
  const auto start = std::chrono::steady_clock::now();
  for (const LinearTuneRequest& request : requests) {
    const LinearParams& params = request.params;
    if (!KeepsContract(params)) return cudaErrorInvalidValue;
    const MatmulShape shape = ShapeOf(params);
    if (state_->choice->tuned().FindExactly(shape) != nullptr) continue;
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (elapsed.count() >= max_seconds) break;
    const std::vector<AlgoTable::Entry> candidates = state_->Candidates(params);
    if (candidates.size() < 2) continue;
    AlgoTable::Entry best;
    const cudaError_t error = TuneLinear(
        request, candidates,
        [&](const LinearParams& p, const AlgoTable::Entry& candidate) {
          return state_->Try(p, candidate, stream);
        },
        stream, &best);
    if (error == cudaErrorNotSupported) continue;
    if (error != cudaSuccess) return error;
    state_->choice->tuned().Set(shape, best);
  }
  state_->checked.clear();
  return cudaSuccess;
}

std::string LinearContext::SaveTuning() const {
  return state_->choice->tuned().Format(state_->identity);
}

bool LinearContext::RestoreTuning(std::string_view text, std::string* error) {
  state_->checked.clear();
  return state_->choice->tuned().Parse(text, state_->identity, error);
}

size_t LinearContext::cublaslt_version() const { return state_->lt->version(); }

}  // namespace mili::kernels::cuda

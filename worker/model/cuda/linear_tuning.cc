#include "worker/model/cuda/linear_tuning.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "common/base/status_macros.h"
#include "worker/device/cuda/cuda_status.h"

namespace mili::worker {
namespace {

namespace k = gpu::k;

constexpr char kFileName[] = "linear-tuning.txt";

// Rows that are tuned, the most useful first. A choice serves fewer rows too, down to half.
constexpr int32_t kRows[] = {2048, 64, 256, 1024, 32, 128, 512, 48, 96, 192};

// The products of a model, each with the weights of all layers to take turns.
class Requests {
 public:
  Requests(const ModelConfig& config, const MemoryPlan& plan, const CudaWeights& weights,
           const CudaWorkspace& workspace, bool pdl)
      : config_(config), plan_(plan), weights_(weights), ws_(workspace), pdl_(pdl) {}

  std::vector<k::LinearTuneRequest> All() {
    for (const int32_t rows : kRows) {
      const bool is_timed = rows > k::kMaxUntimedRows || !pdl_;
      if (is_timed && static_cast<uint32_t>(rows) <= plan_.max_num_batched_tokens) AddLayer(rows);
      if (static_cast<uint32_t>(rows) <= plan_.max_num_seqs) AddHead(rows);
    }
    return std::move(requests_);
  }

 private:
  void AddLayer(int32_t rows) {
    const int64_t hidden = config_.hidden_size;
    const int64_t qkv = config_.q_size() + 2 * config_.kv_size();
    const int64_t size = config_.intermediate_size;
    // Up to so many rows one kernel takes fp8 weights: nothing to choose.
    if (weights_.is_fp8() && rows <= k::kMaxMixedRows) return;
    Add(rows, qkv, hidden, ws_.qkv, &CudaLayerWeights::qkv, &CudaLayerWeights::qkv_scales);
    k::LinearParams gated = Add(rows, 2 * size, hidden, ws_.gate_up, &CudaLayerWeights::gate_up,
                                &CudaLayerWeights::gate_up_scales);
    if (!weights_.is_fp8()) {
      gated.silu_mul = true;
      gated.y = ws_.activation;
      gated.y_stride = size;
      requests_.push_back({gated, requests_.back().weights});
    }
    AddResidual(rows, config_.q_size(), &CudaLayerWeights::o, &CudaLayerWeights::o_scales);
    AddResidual(rows, size, &CudaLayerWeights::down, &CudaLayerWeights::down_scales);
  }

  void AddResidual(int32_t rows, int64_t k, const void* CudaLayerWeights::*matrix,
                   const float* CudaLayerWeights::*scales) {
    k::LinearParams& params = Add(rows, config_.hidden_size, k, ws_.residual, matrix, scales);
    params.add = ws_.normed;
    params.add_stride = config_.hidden_size;
  }

  void AddHead(int32_t rows) {
    k::LinearParams params = Params(rows, config_.vocab_size, config_.hidden_size, ws_.logits);
    params.is_y_f32 = true;
    params.w = weights_.head();
    requests_.push_back({params, {}});
  }

  k::LinearParams& Add(int32_t rows, int64_t n, int64_t k, void* y,
                       const void* CudaLayerWeights::*matrix,
                       const float* CudaLayerWeights::*scales) {
    requests_.push_back({Params(rows, n, k, y), {}});
    for (const CudaLayerWeights& layer : weights_.layers()) {
      requests_.back().weights.push_back(layer.*matrix);
    }
    k::LinearParams& params = requests_.back().params;
    params.w = requests_.back().weights.front();
    params.w_scales = weights_.layers().front().*scales;
    if (params.w_scales != nullptr) params.x_scales = ws_.fp8_scales;
    return params;
  }

  k::LinearParams Params(int32_t rows, int64_t n, int64_t k, void* y) const {
    // Numbers like those of activations: a product of zeros takes less power and runs faster.
    const bool has_numbers = rows * k <= int64_t{config_.vocab_size} * config_.hidden_size;
    return {.dtype = weights_.dtype(),
            .x = has_numbers ? weights_.embed() : ws_.gate_up,
            .x_stride = k,
            .y = y,
            .y_stride = n,
            .num_rows = rows,
            .n = static_cast<int32_t>(n),
            .k = static_cast<int32_t>(k),
            .pdl = pdl_};
  }

  const ModelConfig& config_;
  const MemoryPlan& plan_;
  const CudaWeights& weights_;
  const CudaWorkspace& ws_;
  const bool pdl_;
  std::vector<k::LinearTuneRequest> requests_;
};

}  // namespace

std::string UserCacheFolder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::string(cache) + "/mili";
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home == '/') return std::string(home) + "/.cache/mili";
  return "";
}

absl::StatusOr<LinearTuningReport> TuneLinear(const ModelConfig& config, const MemoryPlan& plan,
                                              const CudaWeights& weights,
                                              const CudaWorkspace& workspace,
                                              const LinearTuningOptions& options,
                                              k::LinearContext* linear, CudaStream* stream) {
  const auto start = std::chrono::steady_clock::now();
  LinearTuningReport report;
  const std::string path = options.folder.empty() ? "" : options.folder + "/" + kFileName;
  if (!path.empty()) k::ReadTuning(path, linear, &report.read_error);
  // What is multiplied by or added to must be numbers, whatever they are.
  MILI_RETURN_IF_ERROR(stream->Zero(workspace.memory.data(), workspace.memory.size_bytes()));
  const std::string before = linear->SaveTuning();
  const cudaError_t error =
      linear->Tune(Requests(config, plan, weights, workspace, options.pdl).All(),
                   options.max_seconds, stream->get());
  if (error != cudaSuccess) return ToStatus(error, "timing the matrix products");
  if (!path.empty() && linear->SaveTuning() != before) {
    std::error_code failed;
    std::filesystem::create_directories(options.folder, failed);
    k::WriteTuning(path, *linear, &report.write_error);
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace mili::worker

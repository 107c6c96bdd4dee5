// CudaModel: a loaded model on a GPU and the ops of its steps: enqueues forward pass, head,
// sampling and scoring on its stream. What a step is made of lies in the workspace's arrays; only
// the shape, which decides grids, comes from the host. Nothing here waits. One thread at a time.
#pragma once

#include <compare>
#include <memory>

#include <absl/status/statusor.h>

#include "common/core/memory_plan.h"
#include "common/core/model_config.h"
#include "worker/device/cuda/cuda_memory.h"
#include "worker/device/cuda/cuda_stream.h"
#include "worker/model/cuda/cuda_weights.h"
#include "worker/model/cuda/cuda_workspace.h"
#include "worker/model/cuda/linear_tuning.h"
#include "worker/model/layer_ops.h"

namespace mili::worker {

// Sequences with one token come first, so their tokens are 0 to num_decode - 1. Padding counts.
struct CudaStepShape {
  int32_t num_tokens = 0;
  int32_t num_decode = 0;
  int32_t num_varlen = 0;  // sequences behind the decoding ones
  int32_t num_varlen_tiles = 0;
  bool has_varlen_parts = false;  // whether attention's tiles may have some
  // SMs for attention of the prompts while the others do that of decodes; 0: one after the other.
  int32_t num_varlen_sms = 0;
  int32_t num_head_rows = 0;
  bool has_scores = false;  // Score will be called
  int32_t max_top = 0;      // likeliest tokens that a sampled row can report
  friend auto operator<=>(const CudaStepShape&, const CudaStepShape&) = default;
};

class CudaModel final : private LayerOps {
 public:
  struct Options {
    ModelConfig config;
    MemoryPlan plan;
    int num_sms = 0;
    int compute_capability = 0;
    // Ids the tokenizer knows; the padding above is never sampled. 0: all of the vocabulary.
    uint32_t num_valid_tokens = 0;
    LinearTuningOptions tuning;  // pdl is set by the model
    // Kernels start while the one before them ends, where the GPU can. Off only to let a tool watch
    // them one by one.
    bool has_early_starts = true;
  };
  // Allocates all that the plan names beside weights and graphs.
  static absl::StatusOr<std::unique_ptr<CudaModel>> Create(Options options, CudaWeights weights);

  // Layers, head and sampling of the step that the workspace holds. Capturable.
  absl::Status RunStep(const CudaStepShape& shape);
  // Scores rows [first, first + count) of the workspace's score arrays, after RunStep; count is at
  // most max_num_seqs. `top` is device memory, [count, max_top].
  absl::Status Score(int32_t first, int32_t count, gpu::k::SampledLogprob* top, int32_t max_top);

  CudaStream& stream() { return stream_; }
  const CudaWorkspace& workspace() const { return ws_; }
  const ModelConfig& config() const { return options_.config; }
  const MemoryPlan& plan() const { return options_.plan; }
  const LinearTuningReport& tuning() const { return tuning_; }

 private:
  CudaModel(Options options, CudaWeights weights);
  absl::Status Allocate();
  // Whether one kernel does all layers of the step: of few tokens, each of a sequence of its own.
  bool HasOneKernel() const;
  absl::Status DecodeStep();

  absl::Status Embed() override;
  absl::Status InputNorm(uint32_t layer_idx) override;
  absl::Status Qkv(uint32_t layer_idx) override;
  absl::Status QkvPrepare(uint32_t layer_idx) override;
  absl::Status Attention(uint32_t layer_idx) override;
  absl::Status AttentionOutput(uint32_t layer_idx) override;
  absl::Status MlpNorm(uint32_t layer_idx) override;
  absl::Status GateUp(uint32_t layer_idx) override;
  absl::Status SiluMul(uint32_t layer_idx) override;
  absl::Status Down(uint32_t layer_idx) override;
  bool HasOutputs() const override { return shape_.num_head_rows > 0 || shape_.has_scores; }
  absl::Status KeepOutputs() override;

  absl::Status AttentionOfDecodes(uint32_t layer_idx);
  absl::Status AttentionOfPrompts(uint32_t layer_idx);
  absl::Status Norm(const void* weight);
  // Makes e4m3 rows of the step's 16-bit ones, [num_tokens, size], where products take those.
  absl::Status Quantize(const void* rows, int64_t size);
  // residual += x w^T over the step's tokens.
  absl::Status AddProduct(const void* x, int64_t k, const void* w, const float* w_scales);
  // Whether products take e4m3 rows, made by the ops before them: fp8 weights and many tokens.
  bool TakesFp8Rows() const;
  // Where those ops put them; null otherwise.
  gpu::k::Fp8Rows Fp8Output() const;
  // y = norm(residual) w^T: normed by the product itself where its kernel does that (norm_weight
  // is set then), else by the op before it.
  gpu::k::LinearParams NormedProduct(const void* norm, const void* w, const float* w_scales,
                                     int64_t n, void* y) const;
  gpu::k::LinearParams QkvParams(uint32_t layer_idx) const;
  // Whether the best tokens of many rows are found in the product that makes their logits.
  bool HasHeadKernel() const;
  // Of the tokens that `row_idxs` (device) names, into ws_.head_normed.
  absl::Status FinalNorm(const int32_t* row_idxs, int32_t num_rows);
  // Of these rows, into ws_.logits.
  absl::Status Logits(int32_t num_rows);
  absl::Status SampleRows();
  // The pages of a layer and the tables of the sequences from `first_seq` on.
  gpu::k::PagedKv Cache(uint32_t layer_idx, int32_t first_seq) const;
  std::byte* Pages(uint32_t layer_idx) const;
  gpu::k::LinearParams GateUpParams(uint32_t layer_idx) const;

  const Options options_;
  const CudaWeights weights_;
  const DType dtype_;
  const bool pdl_;  // kernels start while the one before them ends
  CudaStream stream_;
  CudaMemory kv_;  // [layer][page][K, V][kv_head][token][dim]
  CudaWorkspace ws_;
  std::unique_ptr<gpu::k::LinearContext> linear_;
  LinearTuningReport tuning_;

  // Of RunStep:
  CudaStepShape shape_;
  // What the ops work on: the step's tokens; after KeepOutputs, maybe its head rows alone.
  int32_t num_rows_ = 0;
  void* residual_ = nullptr;            // [num_rows_, hidden]
  void* normed_ = nullptr;              // [num_rows_, hidden]
  void* attention_ = nullptr;           // [num_rows_, q_size]
  const int32_t* head_rows_ = nullptr;  // which of these the head takes; null: all
};

}  // namespace mili::worker

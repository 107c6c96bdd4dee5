// CudaWeights: every tensor of a model in one piece of GPU memory, in the type that the GPU
// computes with, laid out as its kernels want it: q, k and v as one matrix, gate and up rows in
// turns of 8. Read once by several threads, each through pinned buffers of its own. Immutable
// afterwards.
#pragma once

#include <cstdint>
#include <vector>

#include <absl/status/statusor.h>

#include "common/formats/model_source.h"
#include "kernels/params.h"
#include "worker/device/cuda/cuda_memory.h"
#include "worker/model/weights.h"

namespace mili::worker {

struct CudaLayerWeights {
  const void* input_norm = nullptr;           // [hidden]
  const void* post_attention_norm = nullptr;  // [hidden]
  const void* qkv = nullptr;                  // [q_size + 2 kv_size, hidden]
  const void* qkv_bias = nullptr;             // [q_size + 2 kv_size] or null
  const void* q_norm = nullptr;               // [head_dim] or null
  const void* k_norm = nullptr;
  const void* o = nullptr;        // [hidden, q_size]
  const void* gate_up = nullptr;  // [2 intermediate, hidden], rows in turns of 8
  const void* down = nullptr;     // [hidden, intermediate]
  // With fp8 the four matrices hold e4m3 bytes, and a row stands for itself times its scale; null
  // otherwise.
  const float* qkv_scales = nullptr;      // [q_size + 2 kv_size]
  const float* o_scales = nullptr;        // [hidden]
  const float* gate_up_scales = nullptr;  // [2 intermediate]
  const float* down_scales = nullptr;     // [hidden]
};

class CudaWeights {
 public:
  struct Options {
    bool is_fp8 = false;  // quantise the matrices of the layers
    int num_threads = 8;
    // Whose embed takes quantised rows apart.
    const kernels::CpuKernels* kernels = nullptr;
    Weights::Progress progress;
    const std::atomic<bool>* cancelled = nullptr;  // may be null
  };

  // kF16 if most weights are stored so, else kBF16.
  static DType DTypeFor(const ModelSource& source);
  // What Load will hold, to the byte.
  static uint64_t BytesNeeded(const ModelSource& source, bool is_fp8);
  // UNIMPLEMENTED if the shapes do not suit the kernels; else as Weights::Load.
  static absl::StatusOr<CudaWeights> Load(const ModelSource& source, const Options& options);

  DType dtype() const { return dtype_; }  // of all that is not fp8
  bool is_fp8() const { return is_fp8_; }
  const void* embed() const { return embed_; }
  const void* head() const { return head_; }  // the embedding where tied
  const void* final_norm() const { return final_norm_; }
  const std::vector<CudaLayerWeights>& layers() const { return layers_; }

 private:
  DType dtype_ = DType::kBF16;
  bool is_fp8_ = false;
  CudaMemory memory_;
  const void* embed_ = nullptr;
  const void* head_ = nullptr;
  const void* final_norm_ = nullptr;
  std::vector<CudaLayerWeights> layers_;
};

}  // namespace mili::worker

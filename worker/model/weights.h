// Weights: every tensor of a model in one arena, laid out as the kernels want it; norms and biases
// widened to fp32. Read once by several threads, each piece straight into place. Immutable
// afterwards, shared by all threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include <absl/status/statusor.h>

#include "common/formats/model_source.h"
#include "kernels/params.h"
#include "worker/device/memory.h"

namespace mili::worker {

struct LayerWeights {
  const float* input_norm = nullptr;           // [hidden_size]
  const float* post_attention_norm = nullptr;  // [hidden_size]
  kernels::Matrix q, k, v, o;
  const float* q_bias = nullptr;  // [q_size] or null; the same for k and v, [kv_size]
  const float* k_bias = nullptr;
  const float* v_bias = nullptr;
  const float* q_norm = nullptr;  // [head_dim] or null
  const float* k_norm = nullptr;
  kernels::Matrix gate, up, down;
};

class Weights {
 public:
  // Called on the loading threads with the bytes read so far and in all.
  using Progress = std::function<void(uint64_t loaded_bytes, uint64_t total_bytes)>;
  struct Options {
    int num_threads = 4;
    // Who will compute with the weights. Null: matrices lie as stored.
    const kernels::CpuKernels* kernels = nullptr;
    Progress progress;
    // Loading ends with CANCELLED soon after it becomes true. May be null.
    const std::atomic<bool>* cancelled = nullptr;
  };

  // What Load for these kernels will hold, to the byte.
  static uint64_t BytesNeeded(const ModelSource& source, const kernels::CpuKernels* kernels);
  // DATA_LOSS if a file ends early, RESOURCE_EXHAUSTED if the arena cannot be had, UNIMPLEMENTED
  // for a norm or bias that is neither f32, f16 nor bf16.
  static absl::StatusOr<Weights> Load(const ModelSource& source, const Options& options);

  const kernels::Matrix& embed() const { return embed_; }
  const kernels::Matrix& head() const { return head_; }  // the embedding where tied
  const float* final_norm() const { return final_norm_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  uint64_t size_bytes() const { return memory_.size_bytes(); }

 private:
  DeviceMemory memory_;
  kernels::Matrix embed_;
  kernels::Matrix head_;
  const float* final_norm_ = nullptr;
  std::vector<LayerWeights> layers_;
};

}  // namespace mili::worker

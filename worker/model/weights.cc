#include "worker/model/weights.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>

#include <absl/strings/str_cat.h>

#include "common/base/dtype.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/base/strings.h"

namespace mili::worker {
namespace {

// Enough for one pread to run at full speed, little enough that threads share a large tensor.
constexpr uint64_t kChunkBytes = 4ull << 20;

// Vectors (norms, biases) are widened to fp32, matrices lie as the kernels want them.
bool IsVector(const TensorInfo& tensor) { return tensor.shape.size() == 1; }

// Bytes of the first `num_rows` rows of a matrix in the kernels' layout; 0: it lies as stored.
uint64_t PackedBytes(const TensorInfo& tensor, uint64_t num_rows,
                     const kernels::CpuKernels* kernels) {
  if (kernels == nullptr) return 0;
  return kernels->packed_bytes(tensor.dtype, static_cast<int64_t>(num_rows),
                               static_cast<int64_t>(tensor.num_cols()));
}

bool IsPacked(const TensorInfo& tensor, const kernels::CpuKernels* kernels) {
  return !IsVector(tensor) && PackedBytes(tensor, tensor.num_rows(), kernels) != 0;
}

uint64_t BytesInArena(const TensorInfo& tensor, const kernels::CpuKernels* kernels) {
  uint64_t bytes = IsVector(tensor) ? tensor.num_cols() * sizeof(float) : tensor.size_bytes;
  if (IsPacked(tensor, kernels)) bytes = PackedBytes(tensor, tensor.num_rows(), kernels);
  return (bytes + 63) / 64 * 64;
}

absl::Status WidenVector(const TensorInfo& tensor, const std::vector<std::byte>& stored,
                         float* to) {
  const uint64_t count = tensor.num_cols();
  for (uint64_t i = 0; i < count; ++i) {
    uint16_t half = 0;
    switch (tensor.dtype) {
      case DType::kF32:
        std::memcpy(&to[i], stored.data() + i * 4, 4);
        continue;
      case DType::kF16:
        std::memcpy(&half, stored.data() + i * 2, 2);
        to[i] = HalfToFloat(half);
        continue;
      case DType::kBF16:
        std::memcpy(&half, stored.data() + i * 2, 2);
        to[i] = Bf16ToFloat(half);
        continue;
      default:
        return absl::UnimplementedError(
            absl::StrCat(tensor.name_in_file, " is ", ToAbsl(NameOf(tensor.dtype)),
                         "; expected f32, f16 or bf16 for a norm or a bias"));
    }
  }
  return absl::OkStatus();
}

// A run of rows that one thread reads in one go.
struct Chunk {
  const TensorInfo* tensor;
  uint64_t first_row;
  uint64_t num_rows;
  std::byte* to;
  bool is_packed;
};

std::vector<Chunk> CutIntoChunks(const ModelSource& source,
                                 const std::unordered_map<std::string, std::byte*>& places,
                                 const kernels::CpuKernels* kernels) {
  std::vector<Chunk> chunks;
  for (const TensorInfo& tensor : source.tensors()) {
    std::byte* to = places.at(tensor.name);
    if (IsVector(tensor)) {
      chunks.push_back({&tensor, 0, 1, to, false});
      continue;
    }
    const bool is_packed = IsPacked(tensor, kernels);
    const uint64_t row_bytes = RowBytes(tensor.dtype, tensor.num_cols());
    uint64_t rows_a_chunk = std::max<uint64_t>(1, kChunkBytes / std::max(row_bytes, 1ul));
    if (is_packed) {  // whole groups
      constexpr uint64_t kGroup = kernels::kPackedRows;
      rows_a_chunk = (rows_a_chunk + kGroup - 1) / kGroup * kGroup;
    }
    for (uint64_t row = 0; row < tensor.num_rows(); row += rows_a_chunk) {
      const uint64_t offset = is_packed ? PackedBytes(tensor, row, kernels) : row * row_bytes;
      chunks.push_back(
          {&tensor, row, std::min(rows_a_chunk, tensor.num_rows() - row), to + offset, is_packed});
    }
  }
  return chunks;
}

absl::Status ReadChunk(const ModelSource& source, const Chunk& chunk,
                       const kernels::CpuKernels* kernels) {
  const TensorInfo& tensor = *chunk.tensor;
  if (IsVector(tensor)) {
    std::vector<std::byte> stored(tensor.size_bytes);
    MILI_RETURN_IF_ERROR(source.ReadRows(tensor, 0, 1, stored));
    return WidenVector(tensor, stored, reinterpret_cast<float*>(chunk.to));
  }
  const uint64_t bytes = chunk.num_rows * RowBytes(tensor.dtype, tensor.num_cols());
  if (chunk.is_packed) {
    std::vector<std::byte> stored(bytes);
    MILI_RETURN_IF_ERROR(source.ReadRows(tensor, chunk.first_row, chunk.num_rows, stored));
    kernels->pack(tensor.dtype, stored.data(), static_cast<int64_t>(chunk.num_rows),
                  static_cast<int64_t>(tensor.num_cols()), chunk.to);
    return absl::OkStatus();
  }
  return source.ReadRows(tensor, chunk.first_row, chunk.num_rows, std::span(chunk.to, bytes));
}

// Reads all chunks on several threads; the first failure ends them all.
absl::Status ReadAll(const ModelSource& source, const std::vector<Chunk>& chunks,
                     const Weights::Options& options) {
  uint64_t total_bytes = 0;
  for (const TensorInfo& tensor : source.tensors()) total_bytes += tensor.size_bytes;
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> loaded_bytes{0};
  std::atomic<bool> failed{false};
  Mutex mutex;
  absl::Status first_failure;
  const auto work = [&] {
    for (size_t i = next++; i < chunks.size() && !failed; i = next++) {
      absl::Status status = options.cancelled != nullptr && *options.cancelled
                                ? absl::CancelledError("loading was cancelled")
                                : ReadChunk(source, chunks[i], options.kernels);
      if (!status.ok()) {
        MutexLock lock(mutex);
        if (!failed.exchange(true)) first_failure = std::move(status);
        return;
      }
      const TensorInfo& tensor = *chunks[i].tensor;
      const uint64_t bytes = chunks[i].num_rows * (tensor.size_bytes / tensor.num_rows());
      const uint64_t loaded = loaded_bytes += bytes;
      if (options.progress) options.progress(loaded, total_bytes);
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < options.num_threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  return first_failure;
}

// Where tensors lie, by canonical name; what the architecture needs is there, ModelSource says.
class Finder {
 public:
  Finder(const ModelSource& source, const std::unordered_map<std::string, std::byte*>& places,
         const kernels::CpuKernels* kernels)
      : source_(source), places_(places), kernels_(kernels) {}

  const float* Vector(const std::string& name) const {
    const auto place = places_.find(name);
    return place == places_.end() ? nullptr : reinterpret_cast<const float*>(place->second);
  }
  kernels::Matrix Matrix(const std::string& name) const {
    const TensorInfo* tensor = source_.Find(name);
    if (tensor == nullptr) return {};
    return {tensor->dtype, places_.at(name), static_cast<int64_t>(tensor->num_rows()),
            static_cast<int64_t>(tensor->num_cols()), IsPacked(*tensor, kernels_)};
  }

 private:
  const ModelSource& source_;
  const std::unordered_map<std::string, std::byte*>& places_;
  const kernels::CpuKernels* const kernels_;
};

LayerWeights FindLayer(const Finder& find, uint32_t layer_idx) {
  const std::string layer = "model.layers." + std::to_string(layer_idx) + ".";
  const std::string attention = layer + "self_attn.";
  const std::string mlp = layer + "mlp.";
  LayerWeights weights;
  weights.input_norm = find.Vector(layer + "input_layernorm.weight");
  weights.post_attention_norm = find.Vector(layer + "post_attention_layernorm.weight");
  weights.q = find.Matrix(attention + "q_proj.weight");
  weights.k = find.Matrix(attention + "k_proj.weight");
  weights.v = find.Matrix(attention + "v_proj.weight");
  weights.o = find.Matrix(attention + "o_proj.weight");
  weights.q_bias = find.Vector(attention + "q_proj.bias");
  weights.k_bias = find.Vector(attention + "k_proj.bias");
  weights.v_bias = find.Vector(attention + "v_proj.bias");
  weights.q_norm = find.Vector(attention + "q_norm.weight");
  weights.k_norm = find.Vector(attention + "k_norm.weight");
  weights.gate = find.Matrix(mlp + "gate_proj.weight");
  weights.up = find.Matrix(mlp + "up_proj.weight");
  weights.down = find.Matrix(mlp + "down_proj.weight");
  return weights;
}

}  // namespace

uint64_t Weights::BytesNeeded(const ModelSource& source, const kernels::CpuKernels* kernels) {
  uint64_t bytes = 0;
  for (const TensorInfo& tensor : source.tensors()) bytes += BytesInArena(tensor, kernels);
  return bytes;
}

absl::StatusOr<Weights> Weights::Load(const ModelSource& source, const Options& options) {
  Weights weights;
  MILI_ASSIGN_OR_RETURN(weights.memory_,
                        DeviceMemory::Allocate(BytesNeeded(source, options.kernels),
                                               DeviceMemory::Pages::kHuge, "the weights"));
  std::unordered_map<std::string, std::byte*> places;
  std::byte* next = weights.memory_.data();
  for (const TensorInfo& tensor : source.tensors()) {
    places[tensor.name] = next;
    next += BytesInArena(tensor, options.kernels);
  }
  MILI_RETURN_IF_ERROR(ReadAll(source, CutIntoChunks(source, places, options.kernels), options));

  const Finder find(source, places, options.kernels);
  weights.embed_ = find.Matrix("model.embed_tokens.weight");
  weights.head_ =
      source.config().tie_word_embeddings ? weights.embed_ : find.Matrix("lm_head.weight");
  weights.final_norm_ = find.Vector("model.norm.weight");
  for (uint32_t i = 0; i < source.config().num_layers; ++i) {
    weights.layers_.push_back(FindLayer(find, i));
  }
  return weights;
}

}  // namespace mili::worker

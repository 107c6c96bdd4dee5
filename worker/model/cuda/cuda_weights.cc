#include "worker/model/cuda/cuda_weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include <absl/strings/str_cat.h>

#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "worker/device/cuda/cuda_stream.h"
#include "worker/model/cuda/weight_layout.h"
#include "worker/ops/cuda/cuda_ops.h"

namespace mili::worker {
namespace {

// Enough for one pread and one copy to run at full speed; two a thread.
constexpr uint64_t kBufferBytes = 8ull << 20;

// A run of rows that one thread reads in one go.
struct Chunk {
  const TensorPlace* place;
  uint64_t first_row;
  uint64_t num_rows;
};

std::vector<Chunk> CutIntoChunks(const WeightLayout& layout) {
  std::vector<Chunk> chunks;
  for (const TensorPlace& place : layout.places()) {
    const TensorInfo& tensor = *place.tensor;
    const uint64_t rows_that_fit = kBufferBytes / (tensor.num_cols() * 2);
    const uint64_t rows = std::max(rows_that_fit / kInterleavedRows * kInterleavedRows, 1ul);
    for (uint64_t row = 0; row < tensor.num_rows(); row += rows) {
      chunks.push_back({&place, row, std::min(rows, tensor.num_rows() - row)});
    }
  }
  return chunks;
}

// One loading thread's way to the GPU.
class Lane {
 public:
  Lane(const ModelSource& source, DType dtype, const CudaWeights::Options& options, std::byte* base)
      : source_(source),
        dtype_(dtype),
        kernels_(options.kernels),
        is_fp8_(options.is_fp8),
        base_(base) {}

  absl::Status Open() {
    if (is_fp8_) {
      MILI_ASSIGN_OR_RETURN(wide_rows_, CudaMemory::Allocate(kBufferBytes, "quantising weights"));
      MILI_ASSIGN_OR_RETURN(fp8_rows_, CudaMemory::Allocate(kBufferBytes, "quantising weights"));
    }
    MILI_ASSIGN_OR_RETURN(stream_, CudaStream::Create());
    for (Buffer& buffer : buffers_) {
      MILI_ASSIGN_OR_RETURN(buffer.memory, PinnedMemory::Allocate(kBufferBytes, "reading weights"));
      MILI_ASSIGN_OR_RETURN(buffer.is_copied, CudaEvent::Create(/*timed=*/false));
    }
    return absl::OkStatus();
  }

  absl::Status Read(const Chunk& chunk) {
    Buffer& buffer = buffers_[next_];
    next_ = (next_ + 1) % buffers_.size();
    MILI_RETURN_IF_ERROR(buffer.is_copied.Wait());
    const TensorInfo& tensor = *chunk.place->tensor;
    const uint64_t row_bytes = tensor.num_cols() * 2;
    const uint64_t bytes = chunk.num_rows * row_bytes;
    std::byte* const rows = buffer.memory.data();
    if (tensor.dtype == dtype_) {
      MILI_RETURN_IF_ERROR(
          source_.ReadRows(tensor, chunk.first_row, chunk.num_rows, std::span(rows, bytes)));
    } else {
      MILI_RETURN_IF_ERROR(ReadConverted(chunk, reinterpret_cast<uint16_t*>(rows)));
    }
    if (chunk.place->is_fp8) {
      MILI_RETURN_IF_ERROR(stream_.CopyToDevice(wide_rows_.data(), rows, bytes));
      MILI_RETURN_IF_ERROR(Quantize(chunk));
    } else {
      MILI_RETURN_IF_ERROR(Place(chunk, chunk.place->offset_bytes, rows, row_bytes));
    }
    return stream_.Record(buffer.is_copied);
  }

  absl::Status Close() { return stream_.Synchronize(); }

 private:
  struct Buffer {
    PinnedMemory memory;
    CudaEvent is_copied;
  };

  // Copies the chunk's rows, of `row_bytes` each, to where they belong: their tensor begins at
  // `offset_bytes`.
  absl::Status Place(const Chunk& chunk, uint64_t offset_bytes, const void* rows,
                     uint64_t row_bytes) {
    std::byte* const to = base_ + offset_bytes;
    if (!chunk.place->is_interleaved) {
      return stream_.CopyToDevice(to + chunk.first_row * row_bytes, rows,
                                  chunk.num_rows * row_bytes);
    }
    const uint64_t group = kInterleavedRows * row_bytes;
    return stream_.CopyRowsToDevice(to + 2 * chunk.first_row * row_bytes, 2 * group, rows, group,
                                    group, chunk.num_rows / kInterleavedRows);
  }

  // From wide_rows_, on the device.
  absl::Status Quantize(const Chunk& chunk) {
    const uint64_t num_cols = chunk.place->tensor->num_cols();
    const uint64_t values_bytes = (chunk.num_rows * num_cols + 255) / 256 * 256;
    std::byte* const values = fp8_rows_.data();
    std::byte* const scales = values + values_bytes;
    if (values_bytes + chunk.num_rows * sizeof(float) > fp8_rows_.size_bytes()) {
      return absl::UnimplementedError(
          absl::StrCat(chunk.place->tensor->name, " has too short rows for fp8"));
    }
    MILI_RETURN_IF_ERROR(gpu::QuantizeFp8(
        {.dtype = dtype_,
         .in = wide_rows_.data(),
         .in_stride = static_cast<int64_t>(num_cols),
         .num_rows = static_cast<int32_t>(chunk.num_rows),
         .size = static_cast<int32_t>(num_cols),
         .out = {reinterpret_cast<uint8_t*>(values), reinterpret_cast<float*>(scales)}},
        stream_));
    MILI_RETURN_IF_ERROR(Place(chunk, chunk.place->offset_bytes, values, num_cols));
    return Place(chunk, chunk.place->scales_offset_bytes, scales, sizeof(float));
  }

  // Rows of another type, as 16-bit floats.
  absl::Status ReadConverted(const Chunk& chunk, uint16_t* to) {
    const TensorInfo& tensor = *chunk.place->tensor;
    const uint64_t num_cols = tensor.num_cols();
    stored_.resize(chunk.num_rows * RowBytes(tensor.dtype, num_cols));
    MILI_RETURN_IF_ERROR(source_.ReadRows(tensor, chunk.first_row, chunk.num_rows, stored_));
    const uint64_t count = chunk.num_rows * num_cols;
    wide_.resize(count);
    row_numbers_.resize(chunk.num_rows);
    std::iota(row_numbers_.begin(), row_numbers_.end(), 0u);
    kernels::SingleThread pool;
    kernels_->embed({.table = {tensor.dtype, stored_.data(), static_cast<int64_t>(chunk.num_rows),
                               static_cast<int64_t>(num_cols), /*is_packed=*/false},
                     .token_ids = row_numbers_.data(),
                     .num_tokens = static_cast<int64_t>(chunk.num_rows),
                     .out = wide_.data()},
                    pool);
    if (dtype_ == DType::kBF16) {
      for (uint64_t i = 0; i < count; ++i) to[i] = FloatToBf16(wide_[i]);
    } else {
      for (uint64_t i = 0; i < count; ++i) to[i] = FloatToHalf(wide_[i]);
    }
    return absl::OkStatus();
  }

  const ModelSource& source_;
  const DType dtype_;
  const kernels::CpuKernels* const kernels_;
  const bool is_fp8_;
  std::byte* const base_;
  CudaStream stream_;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
  CudaMemory wide_rows_;  // with fp8: a chunk as it was read,
  CudaMemory fp8_rows_;   // and quantised: values, then scales
  std::vector<std::byte> stored_;
  std::vector<float> wide_;
  std::vector<uint32_t> row_numbers_;
};

// What all threads share while they read.
class Reading {
 public:
  Reading(const ModelSource& source, const CudaWeights::Options& options, std::vector<Chunk> chunks)
      : options_(options), chunks_(std::move(chunks)), total_bytes_(source.weights_bytes()) {}

  void Work(Lane lane) {
    absl::Status status = lane.Open();
    for (size_t i = next_++; status.ok() && i < chunks_.size() && !failed_; i = next_++) {
      status = options_.cancelled != nullptr && *options_.cancelled
                   ? absl::CancelledError("loading was cancelled")
                   : lane.Read(chunks_[i]);
      if (status.ok()) Report(chunks_[i]);
    }
    if (status.ok()) status = lane.Close();
    if (status.ok()) return;
    MutexLock lock(mutex_);
    if (!failed_.exchange(true)) first_failure_ = std::move(status);
  }

  absl::Status status() {
    MutexLock lock(mutex_);
    return first_failure_;
  }

 private:
  void Report(const Chunk& chunk) {
    const TensorInfo& tensor = *chunk.place->tensor;
    const uint64_t loaded = loaded_bytes_ +=
        chunk.num_rows * (tensor.size_bytes / tensor.num_rows());
    if (options_.progress) options_.progress(loaded, total_bytes_);
  }

  const CudaWeights::Options& options_;
  const std::vector<Chunk> chunks_;
  const uint64_t total_bytes_;
  std::atomic<size_t> next_{0};
  std::atomic<uint64_t> loaded_bytes_{0};
  std::atomic<bool> failed_{false};
  Mutex mutex_;
  absl::Status first_failure_ MILI_GUARDED_BY(mutex_);
};

absl::Status CheckShapes(const ModelConfig& config, bool is_fp8) {
  if (is_fp8 && (config.hidden_size % 16 != 0 || config.intermediate_size % 16 != 0)) {
    return absl::UnimplementedError(absl::StrCat("hidden_size ", config.hidden_size,
                                                 ", intermediate_size ", config.intermediate_size,
                                                 "; fp8 takes multiples of 16"));
  }
  const uint32_t group = config.num_heads / config.num_kv_heads;
  if (config.head_dim != 64 && config.head_dim != 128) {
    return absl::UnimplementedError(absl::StrCat(
        "head_dim is ", config.head_dim, "; the GPU's kernels take 64 and 128 (--device cpu)"));
  }
  if (group > 8 && group != 16) {
    return absl::UnimplementedError(
        absl::StrCat(group,
                     " heads share a KV head; the GPU's kernels take 1 to 8 and 16 "
                     "(--device cpu)"));
  }
  if (config.hidden_size % 8 != 0 || config.intermediate_size % 8 != 0 ||
      config.vocab_size % 8 != 0) {
    return absl::UnimplementedError(
        absl::StrCat("hidden_size ", config.hidden_size, ", intermediate_size ",
                     config.intermediate_size, ", vocab_size ", config.vocab_size,
                     "; the GPU's kernels take multiples of 8 (--device cpu)"));
  }
  // So that a group of interleaved rows fits a buffer.
  constexpr uint64_t kMaxColumns = kBufferBytes / (2 * kInterleavedRows);
  const uint64_t widest = std::max({config.hidden_size, config.intermediate_size, config.q_size()});
  if (widest > kMaxColumns) {
    return absl::UnimplementedError(absl::StrCat("a matrix has ", widest, " columns; on a GPU ",
                                                 kMaxColumns, " are the most (--device cpu)"));
  }
  return absl::OkStatus();
}

}  // namespace

DType CudaWeights::DTypeFor(const ModelSource& source) {
  std::map<DType, uint64_t> elements;
  for (const TensorInfo& tensor : source.tensors()) {
    elements[tensor.dtype] += tensor.num_rows() * tensor.num_cols();
  }
  const auto most = std::max_element(elements.begin(), elements.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  return most != elements.end() && most->first == DType::kF16 ? DType::kF16 : DType::kBF16;
}

uint64_t CudaWeights::BytesNeeded(const ModelSource& source, bool is_fp8) {
  return WeightLayout(source, is_fp8).size_bytes();
}

absl::StatusOr<CudaWeights> CudaWeights::Load(const ModelSource& source, const Options& options) {
  MILI_RETURN_IF_ERROR(CheckShapes(source.config(), options.is_fp8));
  const WeightLayout layout(source, options.is_fp8);
  CudaWeights weights;
  weights.is_fp8_ = options.is_fp8;
  weights.dtype_ = DTypeFor(source);
  MILI_ASSIGN_OR_RETURN(weights.memory_, CudaMemory::Allocate(layout.size_bytes(), "the weights"));
  std::byte* const base = weights.memory_.data();
  Reading reading(source, options, CutIntoChunks(layout));
  std::vector<std::thread> helpers;
  const auto work = [&] { reading.Work(Lane(source, weights.dtype_, options, base)); };
  for (int i = 1; i < options.num_threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  MILI_RETURN_IF_ERROR(reading.status());

  const auto find = [&](const std::string& name) -> const void* {
    const TensorPlace* place = layout.Find(name);
    return place == nullptr ? nullptr : base + place->offset_bytes;
  };
  const auto find_scales = [&](const std::string& name) -> const float* {
    const TensorPlace* place = layout.Find(name);
    if (place == nullptr || !place->is_fp8) return nullptr;
    return reinterpret_cast<const float*>(base + place->scales_offset_bytes);
  };
  weights.embed_ = find("model.embed_tokens.weight");
  weights.head_ = source.config().tie_word_embeddings ? weights.embed_ : find("lm_head.weight");
  weights.final_norm_ = find("model.norm.weight");
  for (uint32_t i = 0; i < source.config().num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    weights.layers_.push_back(
        {.input_norm = find(layer + "input_layernorm.weight"),
         .post_attention_norm = find(layer + "post_attention_layernorm.weight"),
         .qkv = find(layer + "self_attn.q_proj.weight"),
         .qkv_bias = find(layer + "self_attn.q_proj.bias"),
         .q_norm = find(layer + "self_attn.q_norm.weight"),
         .k_norm = find(layer + "self_attn.k_norm.weight"),
         .o = find(layer + "self_attn.o_proj.weight"),
         .gate_up = find(layer + "mlp.gate_proj.weight"),
         .down = find(layer + "mlp.down_proj.weight"),
         .qkv_scales = find_scales(layer + "self_attn.q_proj.weight"),
         .o_scales = find_scales(layer + "self_attn.o_proj.weight"),
         .gate_up_scales = find_scales(layer + "mlp.gate_proj.weight"),
         .down_scales = find_scales(layer + "mlp.down_proj.weight")});
  }
  return weights;
}

}  // namespace mili::worker

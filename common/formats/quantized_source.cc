#include "common/formats/quantized_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "common/base/dtype.h"
#include "common/base/status_macros.h"
#include "common/base/strings.h"
#include "common/formats/quantize.h"

namespace mili {
namespace {

// A scale of Q8_0 is a half: largest magnitude / 127.
constexpr float kLargestWeight = 65504.0f;

// The type in which a matrix is given.
DType TypeOf(const TensorInfo& tensor, DType wanted) {
  const bool is_table =
      tensor.name == "model.embed_tokens.weight" || tensor.name == "lm_head.weight";
  for (const DType dtype : {is_table ? DType::kQ8_0 : wanted, DType::kQ8_0}) {
    if (tensor.num_cols() % TraitsOf(dtype).block_elements == 0) return dtype;
  }
  return tensor.dtype;
}

// False if a value is no number or too large.
bool Widen(DType dtype, const std::byte* stored, uint64_t count, float* to) {
  bool is_sane = true;
  for (uint64_t i = 0; i < count; ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(&to[i], stored + 4 * i, 4);
    } else {
      uint16_t bits;
      std::memcpy(&bits, stored + 2 * i, 2);
      to[i] = dtype == DType::kBF16 ? Bf16ToFloat(bits) : HalfToFloat(bits);
    }
    is_sane &= std::fabs(to[i]) <= kLargestWeight;
  }
  return is_sane;
}

class QuantizedSource final : public ModelSource {
 public:
  QuantizedSource(std::unique_ptr<ModelSource> stored, DType dtype) : stored_(std::move(stored)) {
    tensors_ = stored_->tensors();
    for (TensorInfo& tensor : tensors_) {
      if (tensor.shape.size() != 2) continue;
      tensor.dtype = TypeOf(tensor, dtype);
      tensor.size_bytes = tensor.num_rows() * RowBytes(tensor.dtype, tensor.num_cols());
    }
  }

  const ModelConfig& config() const override { return stored_->config(); }
  std::string_view format() const override { return stored_->format(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                    [&](const TensorInfo& tensor) { return tensor.name == name; });
    return found == tensors_.end() ? nullptr : &*found;
  }
  absl::Status ReadRows(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                        std::span<std::byte> to) const override;
  absl::StatusOr<std::optional<TokenizerBundle>> LoadTokenizer() const override {
    return stored_->LoadTokenizer();
  }
  const std::string& generation_config_json() const override {
    return stored_->generation_config_json();
  }

 private:
  const std::unique_ptr<ModelSource> stored_;
  std::vector<TensorInfo> tensors_;  // in the order of stored_'s
};

absl::Status QuantizedSource::ReadRows(const TensorInfo& tensor, uint64_t first_row,
                                       uint64_t num_rows, std::span<std::byte> to) const {
  const TensorInfo& stored = *stored_->Find(tensor.name);
  if (stored.dtype == tensor.dtype) return stored_->ReadRows(stored, first_row, num_rows, to);
  constexpr uint64_t kBufferBytes = 1 << 20;
  const uint64_t cols = tensor.num_cols();
  const uint64_t stored_row_bytes = RowBytes(stored.dtype, cols);
  const uint64_t row_bytes = RowBytes(tensor.dtype, cols);
  const uint64_t rows_at_once = std::max<uint64_t>(1, kBufferBytes / stored_row_bytes);
  std::vector<std::byte> buffer;
  std::vector<float> row(cols);
  for (uint64_t done = 0; done < num_rows; done += rows_at_once) {
    const uint64_t count = std::min(rows_at_once, num_rows - done);
    buffer.resize(count * stored_row_bytes);
    MILI_RETURN_IF_ERROR(stored_->ReadRows(stored, first_row + done, count, buffer));
    for (uint64_t i = 0; i < count; ++i) {
      if (!Widen(stored.dtype, buffer.data() + i * stored_row_bytes, cols, row.data())) {
        return absl::DataLossError(absl::StrCat(
            stored.name_in_file, " holds a weight that is not finite or beyond ", kLargestWeight,
            " in row ", first_row + done + i, ": it cannot be quantised"));
      }
      QuantizeRow(tensor.dtype, row.data(), cols, to.data() + (done + i) * row_bytes);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelSource>> QuantizeWhileReading(
    std::unique_ptr<ModelSource> source, std::string_view quantization) {
  if (quantization == "none") return source;
  const DType dtype = quantization == "q4_k" ? DType::kQ4_K : DType::kQ8_0;
  if (quantization != NameOf(dtype)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--quantization is ", ToAbsl(quantization), "; expected none, q8_0 or q4_k"));
  }
  for (const TensorInfo& tensor : source->tensors()) {
    if (!IsQuantized(tensor.dtype)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--quantization ", ToAbsl(quantization), " takes a model stored as f32, f16 or bf16; ",
        tensor.name_in_file, " is ", ToAbsl(NameOf(tensor.dtype)), " already"));
  }
  return std::unique_ptr<ModelSource>(std::make_unique<QuantizedSource>(std::move(source), dtype));
}

}  // namespace mili

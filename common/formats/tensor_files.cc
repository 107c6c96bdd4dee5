#include "common/formats/tensor_files.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace mili {

TensorFiles::TensorFiles(std::vector<File> files, std::vector<TensorInfo> tensors)
    : files_(std::move(files)), tensors_(std::move(tensors)) {
  by_name_.reserve(tensors_.size());
  for (const TensorInfo& tensor : tensors_) by_name_.emplace(tensor.name, &tensor);
}

const TensorInfo* TensorFiles::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

absl::Status TensorFiles::ReadRows(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                                   std::span<std::byte> to) const {
  MILI_CHECK(first_row <= tensor.num_rows() && num_rows <= tensor.num_rows() - first_row,
             "rows lie inside the tensor");
  const uint64_t row_bytes = RowBytes(tensor.dtype, tensor.num_cols());
  MILI_CHECK(to.size() == num_rows * row_bytes, "the target is as long as the rows");
  if (num_rows == 0) return absl::OkStatus();
  if (tensor.permuted_head_dim != 0) {
    return ReadPermuted(tensor, first_row, num_rows, row_bytes, to);
  }
  return files_[tensor.file_idx].ReadAt(tensor.offset_bytes + first_row * row_bytes, to);
}

absl::Status TensorFiles::ReadPermuted(const TensorInfo& tensor, uint64_t first_row,
                                       uint64_t num_rows, uint64_t row_bytes,
                                       std::span<std::byte> to) const {
  // A bias is one row; its elements, which no block ties together, are what is permuted.
  const bool is_bias = tensor.shape.size() == 1;
  const uint64_t unit_bytes = is_bias ? RowBytes(tensor.dtype, 1) : row_bytes;
  const uint64_t first = is_bias ? 0 : first_row;
  const uint64_t count = is_bias ? tensor.num_cols() : num_rows;
  const uint64_t head_dim = tensor.permuted_head_dim;
  const uint64_t head_bytes = head_dim * unit_bytes;
  std::vector<std::byte> stored(head_bytes);
  std::vector<std::byte> canonical(head_bytes);
  for (uint64_t at = first; at < first + count;) {
    const uint64_t head = at / head_dim;
    const uint64_t in_head = at % head_dim;
    const uint64_t now = std::min(first + count - at, head_dim - in_head);
    MILI_RETURN_IF_ERROR(
        files_[tensor.file_idx].ReadAt(tensor.offset_bytes + head * head_bytes, stored));
    UnpermuteHeads(stored, head_dim, unit_bytes, canonical);
    std::memcpy(to.data() + (at - first) * unit_bytes, canonical.data() + in_head * unit_bytes,
                now * unit_bytes);
    at += now;
  }
  return absl::OkStatus();
}

void UnpermuteHeads(std::span<const std::byte> from, size_t head_dim, size_t row_bytes,
                    std::span<std::byte> to) {
  MILI_CHECK(from.size() == to.size() && from.size() % (head_dim * row_bytes) == 0,
             "whole heads are permuted");
  const size_t half = head_dim / 2;
  const size_t num_rows = from.size() / row_bytes;
  for (size_t head_begin = 0; head_begin < num_rows; head_begin += head_dim) {
    for (size_t j = 0; j < 2; ++j) {
      for (size_t i = 0; i < half; ++i) {
        std::memcpy(to.data() + (head_begin + j * half + i) * row_bytes,
                    from.data() + (head_begin + 2 * i + j) * row_bytes, row_bytes);
      }
    }
  }
}

}  // namespace mili

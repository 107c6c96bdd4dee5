// TensorFiles: the open files of a model, its tensor table, and the reading of rows; what both
// formats share. Immutable once made; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <absl/status/status.h>

#include "common/formats/file.h"
#include "common/formats/model_source.h"

namespace mili {

class TensorFiles {
 public:
  // Every tensor lies inside the file that its file_idx names.
  TensorFiles(std::vector<File> files, std::vector<TensorInfo> tensors);

  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* Find(std::string_view name) const;
  // As ModelSource::ReadRows.
  absl::Status ReadRows(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                        std::span<std::byte> to) const;

 private:
  absl::Status ReadPermuted(const TensorInfo& tensor, uint64_t first_row, uint64_t num_rows,
                            uint64_t row_bytes, std::span<std::byte> to) const;

  std::vector<File> files_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, const TensorInfo*> by_name_;
};

// Puts rows that lie in GGUF's order of q and k of arch llama into canonical order: within each
// head of `head_dim` rows, to[j * head_dim / 2 + i] = from[2 * i + j], j < 2. Both spans hold the
// same whole heads of rows of `row_bytes` bytes and do not overlap.
// Source: llama.cpp, convert_hf_to_gguf.py, LlamaModel.permute.
void UnpermuteHeads(std::span<const std::byte> from, size_t head_dim, size_t row_bytes,
                    std::span<std::byte> to);

}  // namespace mili

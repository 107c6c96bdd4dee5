// Where each tensor of a model goes in the GPU's memory. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/formats/model_source.h"

namespace mili::worker {

// Rows that stand together before those of the other matrix come: of gate and of up.
inline constexpr uint64_t kInterleavedRows = 8;

struct TensorPlace {
  const TensorInfo* tensor = nullptr;
  uint64_t offset_bytes = 0;  // of the first row
  // Rows lie in groups of kInterleavedRows; a group of the other matrix follows each.
  bool is_interleaved = false;
  // One byte an element, and a float for each row, interleaved in the same way.
  bool is_fp8 = false;
  uint64_t scales_offset_bytes = 0;  // of the first row's
};

// Two bytes an element, every matrix and vector on 256 bytes. With fp8, the matrices of the layers
// (not the embedding, nor the head) hold one byte an element and have their rows' scales behind.
class WeightLayout {
 public:
  WeightLayout(const ModelSource& source, bool is_fp8);

  const std::vector<TensorPlace>& places() const { return places_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // Place of a tensor by its canonical name; null if the model lacks it.
  const TensorPlace* Find(const std::string& name) const;

 private:
  // What lies in one piece: a matrix, those that one product multiplies by, or a vector.
  struct Part {
    std::string name;
    bool is_interleaved = false;
  };
  void Put(const ModelSource& source, const std::vector<Part>& parts, bool is_fp8);
  uint64_t Align() { return size_bytes_ = (size_bytes_ + 255) / 256 * 256; }

  std::vector<TensorPlace> places_;
  std::unordered_map<std::string, size_t> idxs_;  // into places_
  uint64_t size_bytes_ = 0;
};

}  // namespace mili::worker

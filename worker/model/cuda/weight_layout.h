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
};

// Two bytes an element, every matrix and vector on 256 bytes.
class WeightLayout {
 public:
  explicit WeightLayout(const ModelSource& source);

  const std::vector<TensorPlace>& places() const { return places_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // Offset of a tensor by its canonical name; nothing if the model lacks it.
  const uint64_t* Find(const std::string& name) const;

 private:
  void Begin();  // a new matrix or vector
  void Put(const ModelSource& source, const std::string& name, bool is_interleaved = false);

  std::vector<TensorPlace> places_;
  std::unordered_map<std::string, uint64_t> offsets_;
  uint64_t size_bytes_ = 0;
};

}  // namespace mili::worker

// Which kernel runs which shape, as measured, and its form on disk. Knows nothing of the kernels:
// the caller must check that one takes a shape before it runs it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <tuple>

#include "common/base/dtype.h"

namespace mili::kernels::cuda {

// What a choice of algorithm depends on.
struct MatmulShape {
  DType dtype = DType::kBF16;
  bool is_y_f32 = false;
  bool is_fp8 = false;
  bool has_bias = false;
  bool has_add = false;
  bool silu_mul = false;
  int32_t n = 0;
  int32_t k = 0;
  int32_t num_rows = 0;

  auto Key() const {
    return std::tie(dtype, is_y_f32, is_fp8, has_bias, has_add, silu_mul, n, k, num_rows);
  }
  bool operator<(const MatmulShape& other) const { return Key() < other.Key(); }
};

enum class LinearKernel : uint8_t { kSkinny, kWide, kLibrary, kGated };

class AlgoTable {
 public:
  using Algo = std::array<uint64_t, 8>;
  struct Entry {
    LinearKernel kernel = LinearKernel::kLibrary;
    // Of the library its algorithm; of the wide kernel groups and splits, of the gated one groups.
    Algo algo = {};
    float us = 0.0f;  // as measured
  };

  void Set(const MatmulShape& shape, const Entry& entry) { entries_[shape] = entry; }

  // The entry of this shape with the fewest rows that are not fewer than `shape` has, nor more than
  // twice as many. Null if there is none.
  const Entry* Find(const MatmulShape& shape) const;
  // The entry of exactly this shape, or null.
  const Entry* FindExactly(const MatmulShape& shape) const;

  size_t size() const { return entries_.size(); }

  // Lines of text; `identity` is one line that says where the numbers hold (GPU, driver, library).
  std::string Format(std::string_view identity) const;

  // Replaces the entries by those of `text`. False, and why in *error, when the text is damaged or
  // of another identity; then the table is empty.
  bool Parse(std::string_view text, std::string_view identity, std::string* error);

 private:
  std::map<MatmulShape, Entry> entries_;
};

}  // namespace mili::kernels::cuda

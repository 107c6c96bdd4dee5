// Element types of weights, activations and KV. Kernels include this file, so it depends on
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mili {

// Names and block layouts of the quantised types are GGUF's.
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

// A row is stored as blocks of `block_elements` consecutive elements in `block_bytes` bytes.
struct DTypeTraits {
  std::string_view name;
  uint32_t block_elements;
  uint32_t block_bytes;
};

constexpr DTypeTraits TraitsOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {"f32", 1, 4};
    case DType::kF16:
      return {"f16", 1, 2};
    case DType::kBF16:
      return {"bf16", 1, 2};
    case DType::kQ8_0:
      return {"q8_0", 32, 34};
    case DType::kQ4_0:
      return {"q4_0", 32, 18};
    case DType::kQ4_1:
      return {"q4_1", 32, 20};
    case DType::kQ5_0:
      return {"q5_0", 32, 22};
    case DType::kQ5_1:
      return {"q5_1", 32, 24};
    case DType::kQ4_K:
      return {"q4_k", 256, 144};
    case DType::kQ5_K:
      return {"q5_k", 256, 176};
    case DType::kQ6_K:
      return {"q6_k", 256, 210};
  }
  return {"?", 1, 0};
}

constexpr std::string_view NameOf(DType dtype) { return TraitsOf(dtype).name; }

// Bytes of a row of `num_elements`, which must be a multiple of the type's block.
constexpr size_t RowBytes(DType dtype, size_t num_elements) {
  const DTypeTraits traits = TraitsOf(dtype);
  return num_elements / traits.block_elements * traits.block_bytes;
}

constexpr bool IsQuantized(DType dtype) { return TraitsOf(dtype).block_elements > 1; }

}  // namespace mili

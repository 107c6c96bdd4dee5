// Element types of weights, activations and KV. Kernels include this file, so it depends on
// nothing of ours.
#pragma once

#include <bit>
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

// The 16-bit floats to and from fp32.

inline float Bf16ToFloat(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// To nearest, ties to even; a NaN stays a NaN.
inline uint16_t FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float HalfToFloat(uint16_t bits) {
  const uint32_t magnitude = uint32_t{bits & 0x7fffu} << 13;
  // The half's exponent is 112 lower; the product also renormalises subnormals.
  const uint32_t value = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t special = magnitude >= 0x0f800000 ? 0x7f800000u : 0u;  // inf, NaN
  return std::bit_cast<float>(value | special | uint32_t{bits & 0x8000u} << 16);
}

// To nearest, ties to even; 0 below the smallest subnormal, infinity above 65504.
inline uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const float magnitude = std::bit_cast<float>(bits & 0x7fffffff);
  if (!(magnitude <= 65504.0f)) return sign | (magnitude >= 65520.0f ? 0x7c00 : 0x7bff);
  if (magnitude < 0x1p-14f) {  // subnormal: the sum rounds to multiples of 2^-24
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(magnitude + 0.5f) - 0x3f000000);
  }
  const uint32_t wide = (bits & 0x7fffffff) + 0xfff + ((bits >> 13) & 1);
  return sign | static_cast<uint16_t>((wide >> 13) - (112 << 10));
}

}  // namespace mili

// IEEE halves and bfloat16 to and from fp32, for files. Pure.
#pragma once

#include <bit>
#include <cstdint>

namespace mili {

inline float FloatOfBf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

inline float FloatOfHalf(uint16_t bits) {
  const uint32_t magnitude = uint32_t{bits & 0x7fffu} << 13;
  // The half's exponent is 112 lower; the product also renormalises subnormals.
  const uint32_t value = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t special = magnitude >= 0x0f800000 ? 0x7f800000u : 0u;  // inf, NaN
  return std::bit_cast<float>(value | special | uint32_t{bits & 0x8000u} << 16);
}

// To nearest, ties to even; 0 below the smallest subnormal, infinity above 65504.
inline uint16_t HalfOfFloat(float value) {
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

#include "kernels/reference/dequant.h"

#include <cstring>

#include "kernels/reference/lanes.h"

namespace mili::kernels {
namespace {

[[gnu::always_inline]] inline uint16_t LoadU16(const uint8_t* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

[[gnu::always_inline]] inline float LoadHalf(const uint8_t* p) { return HalfToFloat(LoadU16(p)); }

[[gnu::always_inline]] inline uint32_t LoadU32(const uint8_t* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

[[gnu::always_inline]] inline void BlockQ8_0(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<int8_t>(block[2 + i]);
}

// Bit i as the fifth bit of a weight.
[[gnu::always_inline]] inline int BitAs16(uint32_t bits, int i) {
  return static_cast<int>((bits >> i) & 1u) << 4;
}

// Loops of 16 must not be unrolled whole before they are vectorised: hence "unroll 1".

[[gnu::always_inline]] inline void BlockQ4_0(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const uint8_t* q = block + 2;
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i) out[i] = d * ((q[i] & 15) - 8);
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i) out[i + 16] = d * ((q[i] >> 4) - 8);
}

[[gnu::always_inline]] inline void BlockQ4_1(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const float m = LoadHalf(block + 2);
  const uint8_t* q = block + 4;
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i) out[i] = d * (q[i] & 15) + m;
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i) out[i + 16] = d * (q[i] >> 4) + m;
}

[[gnu::always_inline]] inline void BlockQ5_0(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const uint32_t high = LoadU32(block + 2);
  const uint8_t* q = block + 6;
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i) out[i] = d * (((q[i] & 15) | BitAs16(high, i)) - 16);
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i) out[i + 16] = d * (((q[i] >> 4) | BitAs16(high, i + 16)) - 16);
}

[[gnu::always_inline]] inline void BlockQ5_1(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const float m = LoadHalf(block + 2);
  const uint32_t high = LoadU32(block + 4);
  const uint8_t* q = block + 8;
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i) out[i] = d * ((q[i] & 15) | BitAs16(high, i)) + m;
#pragma GCC unroll 1
  for (int i = 0; i < 16; ++i) out[i + 16] = d * ((q[i] >> 4) | BitAs16(high, i + 16)) + m;
}

// The 6-bit scale and minimum of sub-block `sub` out of the 12 bytes `b` of Q4_K and Q5_K.
[[gnu::always_inline]] inline void KScale(const uint8_t* b, int sub, int* scale, int* min) {
  if (sub < 4) {
    *scale = b[sub] & 63;
    *min = b[sub + 4] & 63;
  } else {
    *scale = (b[sub + 4] & 15) | ((b[sub - 4] >> 6) << 4);
    *min = (b[sub + 4] >> 4) | ((b[sub] >> 6) << 4);
  }
}

[[gnu::always_inline]] inline void BlockQ4_K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const float dmin = LoadHalf(block + 2);
  for (int sub = 0; sub < 8; ++sub) {
    int scale, min;
    KScale(block + 4, sub, &scale, &min);
    const float ds = d * scale;
    const float ms = dmin * min;
    const uint8_t* q = block + 16 + sub / 2 * 32;
    const int shift = sub % 2 * 4;
    for (int i = 0; i < 32; ++i) out[sub * 32 + i] = ds * ((q[i] >> shift) & 15) - ms;
  }
}

[[gnu::always_inline]] inline void BlockQ5_K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const float dmin = LoadHalf(block + 2);
  const uint8_t* high = block + 16;
  for (int sub = 0; sub < 8; ++sub) {
    int scale, min;
    KScale(block + 4, sub, &scale, &min);
    const float ds = d * scale;
    const float ms = dmin * min;
    const uint8_t* q = block + 48 + sub / 2 * 32;
    const int shift = sub % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      out[sub * 32 + i] = ds * (((q[i] >> shift) & 15) + ((high[i] >> sub) & 1) * 16) - ms;
    }
  }
}

[[gnu::always_inline]] inline void BlockQ6_K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block + 208);
  const auto* scales = reinterpret_cast<const int8_t*>(block + 192);
  for (int sub = 0; sub < 16; ++sub) {
    const int quarter = sub / 2 % 4;  // of a half of 128 elements
    const uint8_t* low = block + sub / 8 * 64 + quarter % 2 * 32 + sub % 2 * 16;
    const uint8_t* high = block + 128 + sub / 8 * 32 + sub % 2 * 16;
    const float ds = d * scales[sub];
    const int low_shift = quarter / 2 * 4;
    const int high_shift = quarter * 2;
#pragma GCC unroll 1
    for (int i = 0; i < 16; ++i) {
      const int q = ((low[i] >> low_shift) & 15) | (((high[i] >> high_shift) & 3) << 4);
      out[sub * 16 + i] = ds * (q - 32);
    }
  }
}

template <typename BlockFn>
[[gnu::always_inline]] inline void EachBlock(DType dtype, const uint8_t* data, int64_t num_elements,
                                             float* out, BlockFn block) {
  const DTypeTraits traits = TraitsOf(dtype);
  for (int64_t i = 0; i < num_elements; i += traits.block_elements) {
    block(data, out + i);
    data += traits.block_bytes;
  }
}

}  // namespace

MILI_MULTIVERSION
void Dequantize(DType dtype, const std::byte* blocks, int64_t num_elements, float* out) {
  const auto* data = reinterpret_cast<const uint8_t*>(blocks);
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, data, num_elements * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < num_elements; ++i) out[i] = LoadHalf(data + 2 * i);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < num_elements; ++i) out[i] = Bf16ToFloat(LoadU16(data + 2 * i));
      return;
    case DType::kQ8_0:
      return EachBlock(dtype, data, num_elements, out, BlockQ8_0);
    case DType::kQ4_0:
      return EachBlock(dtype, data, num_elements, out, BlockQ4_0);
    case DType::kQ4_1:
      return EachBlock(dtype, data, num_elements, out, BlockQ4_1);
    case DType::kQ5_0:
      return EachBlock(dtype, data, num_elements, out, BlockQ5_0);
    case DType::kQ5_1:
      return EachBlock(dtype, data, num_elements, out, BlockQ5_1);
    case DType::kQ4_K:
      return EachBlock(dtype, data, num_elements, out, BlockQ4_K);
    case DType::kQ5_K:
      return EachBlock(dtype, data, num_elements, out, BlockQ5_K);
    case DType::kQ6_K:
      return EachBlock(dtype, data, num_elements, out, BlockQ6_K);
  }
}

}  // namespace mili::kernels

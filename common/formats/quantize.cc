#include "common/formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/base/dtype.h"

namespace mili {
namespace {

void PutHalf(float value, std::byte* to) {
  const uint16_t half = FloatToHalf(value);
  std::memcpy(to, &half, 2);
}

// 0 .. most, nearest to value / step.
int Level(float value, float inverse_step, int most) {
  return std::clamp(static_cast<int>(std::lrint(value * inverse_step)), 0, most);
}

void QuantizeQ8Block(const float* x, std::byte* block) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float d = HalfToFloat(FloatToHalf(largest / 127));
  const float inverse = d > 0 ? 1 / d : 0;
  PutHalf(d, block);
  for (int i = 0; i < 32; ++i) {
    const long q = std::clamp(std::lrint(x[i] * inverse), -127l, 127l);
    block[2 + i] = static_cast<std::byte>(static_cast<int8_t>(q));
  }
}

// x[i] is about scale * q[i] - min, q[i] in 0 .. 15.
struct SubBlock {
  float scale = 0;
  float min = 0;  // at least 0
};

// Scale and minimum that fit given levels best, and the squared error that is left.
double Fit(const float* x, const int* levels, SubBlock* fit) {
  double sum_q = 0, sum_qq = 0, sum_x = 0, sum_qx = 0;
  for (int i = 0; i < 32; ++i) {
    sum_q += levels[i];
    sum_qq += double{1} * levels[i] * levels[i];
    sum_x += x[i];
    sum_qx += double{x[i]} * levels[i];
  }
  const double determinant = 32 * sum_qq - sum_q * sum_q;
  double scale = determinant > 0 ? (32 * sum_qx - sum_q * sum_x) / determinant : 0;
  double min = (scale * sum_q - sum_x) / 32;
  if (min < 0) {  // a minimum above zero cannot be stored
    min = 0;
    scale = sum_qq > 0 ? sum_qx / sum_qq : 0;
  }
  *fit = {static_cast<float>(std::max(scale, 0.0)), static_cast<float>(min)};
  double error = 0;
  for (int i = 0; i < 32; ++i) {
    const double off = fit->scale * levels[i] - fit->min - x[i];
    error += off * off;
  }
  return error;
}

SubBlock FindSubBlock(const float* x) {
  const float min = std::min(*std::min_element(x, x + 32), 0.0f);
  const float max = *std::max_element(x, x + 32);
  SubBlock best = {0, -min};
  if (max <= min) return best;
  double best_error = INFINITY;
  for (int trial = -2; trial <= 4; ++trial) {  // finer steps clip the ends
    const float inverse = (15 + 0.4f * static_cast<float>(trial)) / (max - min);
    int levels[32];
    for (int i = 0; i < 32; ++i) levels[i] = Level(x[i] - min, inverse, 15);
    SubBlock fit;
    const double error = Fit(x, levels, &fit);
    if (error >= best_error) continue;
    best_error = error;
    best = fit;
  }
  return best;
}

// The 6-bit scales and mins of 8 sub-blocks in 12 bytes: the first four in the low bits of bytes
// 0-3 and 4-7, of the others four bits in bytes 8-11 and two in the high bits of the former.
void PutSixBits(const int* scales, const int* mins, std::byte* to) {
  uint8_t bytes[12] = {};
  for (int i = 0; i < 4; ++i) {
    bytes[i] = static_cast<uint8_t>(scales[i] | (scales[i + 4] >> 4) << 6);
    bytes[i + 4] = static_cast<uint8_t>(mins[i] | (mins[i + 4] >> 4) << 6);
    bytes[i + 8] = static_cast<uint8_t>((scales[i + 4] & 15) | (mins[i + 4] & 15) << 4);
  }
  std::memcpy(to, bytes, sizeof(bytes));
}

void QuantizeQ4KBlock(const float* x, std::byte* block) {
  SubBlock found[8];
  float largest_scale = 0, largest_min = 0;
  for (int sub = 0; sub < 8; ++sub) {
    found[sub] = FindSubBlock(x + 32 * sub);
    largest_scale = std::max(largest_scale, found[sub].scale);
    largest_min = std::max(largest_min, found[sub].min);
  }
  const float d = HalfToFloat(FloatToHalf(largest_scale / 63));
  const float dmin = HalfToFloat(FloatToHalf(largest_min / 63));
  int scales[8], mins[8];
  uint8_t q[256];
  for (int sub = 0; sub < 8; ++sub) {
    scales[sub] = d > 0 ? Level(found[sub].scale, 1 / d, 63) : 0;
    mins[sub] = dmin > 0 ? Level(found[sub].min, 1 / dmin, 63) : 0;
    const float step = d * static_cast<float>(scales[sub]);
    const float min = dmin * static_cast<float>(mins[sub]);
    for (int i = 32 * sub; i < 32 * sub + 32; ++i) {
      q[i] = static_cast<uint8_t>(step > 0 ? Level(x[i] + min, 1 / step, 15) : 0);
    }
  }
  PutHalf(d, block);
  PutHalf(dmin, block + 2);
  PutSixBits(scales, mins, block + 4);
  for (int i = 0; i < 128; ++i) {  // 32 bytes hold one sub-block low, the next high
    const int low = i / 32 * 64 + i % 32;
    block[16 + i] = static_cast<std::byte>(q[low] | q[low + 32] << 4);
  }
}

}  // namespace

void QuantizeRow(DType dtype, const float* values, uint64_t num_elements, std::byte* blocks) {
  const DTypeTraits traits = TraitsOf(dtype);
  for (uint64_t i = 0; i < num_elements; i += traits.block_elements) {
    if (dtype == DType::kQ8_0) {
      QuantizeQ8Block(values + i, blocks);
    } else {
      QuantizeQ4KBlock(values + i, blocks);
    }
    blocks += traits.block_bytes;
  }
}

}  // namespace mili

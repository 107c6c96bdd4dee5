// What the kernel tests share: random inputs of every dtype, poisoned buffers, the list of fast
// tables that this CPU can run.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/kernels.h"
#include "kernels/params.h"
#include "kernels/reference/dequant.h"
#include "kernels/reference/kernels.h"

namespace mili::kernels {

inline constexpr DType kAllDTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                                       DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                       DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

inline std::vector<std::string> RunnableTables() {
  std::istringstream names(RunnableCpuKernels());
  std::vector<std::string> tables;
  for (std::string name; names >> name;) tables.push_back(name);
  return tables;
}

inline std::vector<std::string> AllTables() {
  std::vector<std::string> tables = RunnableTables();
  tables.push_back("reference");
  return tables;
}

inline const CpuKernels& TableOf(const std::string& name) {
  return name == "reference" ? ReferenceKernels() : *FindCpuKernels(name.c_str());
}

inline std::vector<float> Poisoned(size_t size) {
  return std::vector<float>(size, std::numeric_limits<float>::quiet_NaN());
}

inline std::vector<float> RandomFloats(size_t size, std::mt19937& rng, float spread = 1) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> values(size);
  for (float& value : values) value = normal(rng);
  return values;
}

// Small positive halves, as scales are.
inline uint16_t RandomScale(std::mt19937& rng) {
  return static_cast<uint16_t>(0x1800 + rng() % 0x0c00);  // 2^-9 .. 2^-6
}

// Offsets in a block of the halves d and m (or dmin), -1 if there is none.
inline std::pair<int, int> ScaleOffsets(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ6_K:
      return {208, -1};
    default:
      return {0, -1};
  }
}

// Random rows: random bits for the weights, sane scales. One byte in front keeps data unaligned.
class RandomMatrix {
 public:
  RandomMatrix(DType dtype, int64_t rows, int64_t cols, std::mt19937& rng)
      : bytes_(1 + rows * RowBytes(dtype, cols)) {
    std::byte* data = bytes_.data() + 1;
    const DTypeTraits traits = TraitsOf(dtype);
    for (int64_t i = 0; i < rows * cols; i += traits.block_elements) {
      FillBlock(dtype, data, rng);
      data += traits.block_bytes;
    }
    matrix_ = {dtype, bytes_.data() + 1, rows, cols};
  }

  const Matrix& matrix() const { return matrix_; }

 private:
  static void FillBlock(DType dtype, std::byte* data, std::mt19937& rng) {
    const float value = std::normal_distribution<float>(0, 0.05f)(rng);
    const uint16_t bf16 = FloatToBf16(value);
    switch (dtype) {
      case DType::kF32:
        std::memcpy(data, &value, 4);
        return;
      case DType::kBF16:
        std::memcpy(data, &bf16, 2);
        return;
      case DType::kF16: {
        const uint16_t half = RandomScale(rng) | static_cast<uint16_t>(rng() % 2 << 15);
        std::memcpy(data, &half, 2);
        return;
      }
      default:
        break;
    }
    for (uint32_t i = 0; i < TraitsOf(dtype).block_bytes; ++i) data[i] = std::byte(rng() & 255);
    const auto [d, m] = ScaleOffsets(dtype);
    const uint16_t scale = RandomScale(rng);
    std::memcpy(data + d, &scale, 2);
    const uint16_t min = RandomScale(rng);
    if (m >= 0) std::memcpy(data + m, &min, 2);
  }

  std::vector<std::byte> bytes_;
  Matrix matrix_;
};

// 64-aligned bytes filled with 0xa5.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : bytes_(bytes + 64, std::byte{0xa5}) {}
  std::byte* data() {
    const auto address = reinterpret_cast<uintptr_t>(bytes_.data());
    return bytes_.data() + (64 - address % 64) % 64;
  }

 private:
  std::vector<std::byte> bytes_;
};

// A matrix in the layout that a table wants.
class LaidOut {
 public:
  LaidOut(const CpuKernels& table, const Matrix& stored)
      : packed_(table.packed_bytes(stored.dtype, stored.rows, stored.cols)), matrix_(stored) {
    if (table.packed_bytes(stored.dtype, stored.rows, stored.cols) == 0) return;
    table.pack(stored.dtype, stored.data, stored.rows, stored.cols, packed_.data());
    matrix_.data = packed_.data();
    matrix_.is_packed = true;
  }
  const Matrix& matrix() const { return matrix_; }

 private:
  Workspace packed_;
  Matrix matrix_;
};

inline double RootMeanSquare(const std::vector<float>& values) {
  double sum = 0;
  for (float value : values) sum += static_cast<double>(value) * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

// Largest |actual - expected| over the rms of expected; infinity if any value is not finite.
inline double RelativeError(const std::vector<float>& actual, const std::vector<float>& expected) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    if (!(error <= std::numeric_limits<double>::max())) return error;
    worst = std::max(worst, error);
  }
  return worst / RootMeanSquare(expected);
}

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace mili::kernels

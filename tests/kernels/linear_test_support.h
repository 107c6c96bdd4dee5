// Runs of linear and their expected results, for the tests of linear.
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "tests/kernels/kernel_test_support.h"
#include "tests/support/spawning_pool.h"

namespace mili::kernels {

// fp64 sums over dequantised weights.
inline std::vector<float> Expected(const Matrix& weight, const std::vector<float>& bias,
                                   const std::vector<float>& x, int64_t num_tokens) {
  std::vector<float> y(num_tokens * weight.rows);
  std::vector<float> row(weight.cols);
  for (int64_t r = 0; r < weight.rows; ++r) {
    Dequantize(weight.dtype, weight.data + r * RowBytes(weight.dtype, weight.cols), weight.cols,
               row.data());
    for (int64_t t = 0; t < num_tokens; ++t) {
      double sum = bias.empty() ? 0 : bias[r];
      for (int64_t i = 0; i < weight.cols; ++i) {
        sum += static_cast<double>(row[i]) * x[t * weight.cols + i];
      }
      y[t * weight.rows + r] = static_cast<float>(sum);
    }
  }
  return y;
}

// y of tokens [begin, end) of x, contiguous.
inline std::vector<float> RunLinear(const CpuKernels& table, const Matrix& weight,
                                    const std::vector<float>& bias, const std::vector<float>& x,
                                    int64_t begin, int64_t end, int num_threads = 1) {
  std::vector<float> y = Poisoned((end - begin) * weight.rows);
  Workspace workspace(table.linear_workspace_bytes(end - begin, weight.cols));
  const LaidOut laid_out(table, weight);
  LinearParams params;
  params.x = x.data() + begin * weight.cols;
  params.num_tokens = end - begin;
  params.in_features = weight.cols;
  params.parts[0] = {laid_out.matrix(), bias.empty() ? nullptr : bias.data(), y.data(),
                     weight.rows};
  params.num_parts = 1;
  params.workspace = workspace.data();
  SpawningPool pool(num_threads);
  table.linear(params, pool);
  return y;
}

// Integers times a power of two, with 127 in every block of 16.
inline std::vector<float> GridActivations(size_t size, std::mt19937& rng) {
  std::vector<float> x(size);
  float scale = 0;
  for (size_t i = 0; i < size; ++i) {
    if (i % 16 == 0) scale = std::ldexp(1.0f, static_cast<int>(rng() % 6) - 10);
    const int value = i % 16 == 7 ? 127 : static_cast<int>(rng() % 255) - 127;
    x[i] = scale * static_cast<float>(value);
  }
  return x;
}

inline int64_t ColsOf(DType dtype, int64_t wanted) {
  const int64_t block = TraitsOf(dtype).block_elements;
  return (wanted + block - 1) / block * block;
}

}  // namespace mili::kernels

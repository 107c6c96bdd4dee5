// Arrays on the GPU for the tests of the row kernels and of sampling: filled from the host, or
// poisoned, with a guard behind the end. One thread.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/dtype.h"
#include "kernels/parallel.h"

namespace mili::kernels::cuda {

// Skips the test where there is no device.
class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) GTEST_SKIP() << "no CUDA device";
  }
};

// 256-aligned. Bytes that nobody has written are 0xff: a NaN in every float type, -1 as an integer.
template <typename T>
class GpuArray {
 public:
  explicit GpuArray(size_t size) : size_(size) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), Bytes()), cudaSuccess);
    EXPECT_EQ(cudaMemset(data_, 0xff, Bytes()), cudaSuccess);
  }
  explicit GpuArray(const std::vector<T>& from) : GpuArray(from.size()) {
    EXPECT_EQ(cudaMemcpy(data_, from.data(), size_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  GpuArray(const GpuArray&) = delete;
  GpuArray& operator=(const GpuArray&) = delete;
  ~GpuArray() { cudaFree(data_); }

  T* data() const { return data_; }

  // What is there once all work is done; fails if the guard was written.
  std::vector<T> Read() const {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::vector<uint8_t> bytes(Bytes());
    EXPECT_EQ(cudaMemcpy(bytes.data(), data_, Bytes(), cudaMemcpyDeviceToHost), cudaSuccess);
    for (size_t i = size_ * sizeof(T); i < Bytes(); ++i) {
      if (bytes[i] != 0xff) ADD_FAILURE() << "written " << i - size_ * sizeof(T) << " past the end";
    }
    std::vector<T> values(size_);
    if (size_ > 0) std::memcpy(values.data(), bytes.data(), size_ * sizeof(T));
    return values;
  }

 private:
  static constexpr size_t kGuard = 256;
  size_t Bytes() const { return size_ * sizeof(T) + kGuard; }

  size_t size_;
  T* data_ = nullptr;
};

inline uint16_t ToBits(DType dtype, float value) {
  return dtype == DType::kBF16 ? FloatToBf16(value) : FloatToHalf(value);
}
inline float FromBits(DType dtype, uint16_t bits) {
  return dtype == DType::kBF16 ? Bf16ToFloat(bits) : HalfToFloat(bits);
}

// Random 16-bit floats, as bits and as what they stand for.
struct Halves {
  Halves(DType dtype, size_t size, std::mt19937& random, float spread = 1)
      : bits(size), values(size) {
    std::normal_distribution<float> normal(0, spread);
    for (size_t i = 0; i < size; ++i) {
      bits[i] = ToBits(dtype, normal(random));
      values[i] = FromBits(dtype, bits[i]);
    }
  }
  std::vector<uint16_t> bits;
  std::vector<float> values;
};

inline std::vector<float> Decoded(DType dtype, const std::vector<uint16_t>& bits) {
  std::vector<float> values(bits.size());
  std::transform(bits.begin(), bits.end(), values.begin(),
                 [&](uint16_t b) { return FromBits(dtype, b); });
  return values;
}

inline constexpr DType kHalfTypes[] = {DType::kBF16, DType::kF16};

// Half a unit in the last place, and the fp32 sums before it, relative to the value.
inline float RoundingOf(DType dtype) { return dtype == DType::kBF16 ? 0x1.02p-8f : 0x1.02p-11f; }

// The reference's kernels on one thread.
class NoThreads : public ParallelFor {
 public:
  int num_threads() const override { return 1; }
  void Run(void (*task)(void* context, int thread_idx), void* context) override {
    task(context, 0);
  }
};

}  // namespace mili::kernels::cuda

// Linear layers of random numbers on the GPU and what they should give, in fp64 on the host. One
// thread; skips the test where there is no device.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "common/base/dtype.h"
#include "kernels/cuda/linear/linear.h"

namespace mili::kernels::cuda {

inline bool HasDevice() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

// An array on the device, at least 16-aligned.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), std::max<size_t>(size, 1) * sizeof(T)),
              cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& from) : DeviceArray(from.size()) {
    EXPECT_EQ(cudaMemcpy(data_, from.data(), size_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> Read() const {
    std::vector<T> out(size_);
    EXPECT_EQ(cudaMemcpy(out.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return out;
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// 16-bit floats on the host.
inline uint16_t Encode(DType dtype, float value) {
  if (dtype == DType::kF16) {
    const _Float16 half = static_cast<_Float16>(value);
    uint16_t bits;
    std::memcpy(&bits, &half, 2);
    return bits;
  }
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float Decode(DType dtype, uint16_t bits) {
  if (dtype == DType::kF16) {
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return static_cast<float>(half);
  }
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

// e4m3 without infinities: 4 bits of exponent with bias 7, 3 of mantissa.
inline float DecodeFp8(uint8_t bits) {
  const int exponent = bits >> 3 & 15;
  const int mantissa = bits & 7;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(8.0f + mantissa, exponent - 10);
  return bits & 0x80 ? -magnitude : magnitude;
}

// A layer's shape, and what of LinearParams it uses.
struct Layer {
  DType dtype = DType::kBF16;
  int32_t num_rows = 1;
  int32_t n = 64;
  int32_t k = 64;
  bool is_y_f32 = false;
  bool has_bias = false;
  bool has_add = false;
  bool adds_in_place = false;
  bool silu_mul = false;
  bool has_norm = false;
  bool has_fp8_weights = false;
  bool has_fp8_x = false;
  int32_t padding = 0;  // elements between rows of x, y and add
};

// The layer's inputs, on the host and on the device.
class LayerData {
 public:
  LayerData(const Layer& layer, uint64_t seed)
      : layer_(layer),
        x_(Floats(size_t(layer.num_rows) * x_stride(), 1.0f, &seed)),
        w_(Floats(size_t(layer.n) * layer.k, 1.0f / std::sqrt(float(layer.k)), &seed)),
        bias_(Floats(layer.n, 1.0f, &seed)),
        norm_(Floats(layer.k, 1.0f, &seed)),
        add_(Floats(size_t(layer.num_rows) * y_stride(), 1.0f, &seed)),
        x8_(Bytes(size_t(layer.num_rows) * x_stride(), &seed)),
        w8_(Bytes(size_t(layer.n) * layer.k, &seed)),
        x_scales_(Scales(layer.num_rows, 1.0f, &seed)),
        w_scales_(Scales(layer.n, 1.0f / std::sqrt(float(layer.k)), &seed)),
        dx_(x_),
        dw_(w_),
        dbias_(bias_),
        dnorm_(norm_),
        dadd_(add_),
        dx8_(x8_),
        dw8_(w8_),
        dx_scales_(x_scales_),
        dw_scales_(w_scales_),
        y_(size_t(layer.num_rows + 1) * y_stride() * (layer.is_y_f32 ? 2 : 1)),
        decoded_x_(DecodedX()) {}

  int64_t x_stride() const { return layer_.k + layer_.padding; }
  int64_t y_stride() const { return layer_.n + layer_.padding; }
  int32_t num_outputs() const { return layer_.silu_mul ? layer_.n / 2 : layer_.n; }

  LinearParams Params() const {
    LinearParams p;
    p.dtype = layer_.dtype;
    p.is_y_f32 = layer_.is_y_f32;
    p.x = layer_.has_fp8_x ? static_cast<const void*>(dx8_.data()) : dx_.data();
    p.x_stride = x_stride();
    p.w = layer_.has_fp8_weights ? static_cast<const void*>(dw8_.data()) : dw_.data();
    p.bias = layer_.has_bias ? dbias_.data() : nullptr;
    p.y = y_.data();
    p.y_stride = y_stride();
    p.add = layer_.adds_in_place ? p.y : layer_.has_add ? dadd_.data() : nullptr;
    p.add_stride = y_stride();
    p.num_rows = layer_.num_rows;
    p.n = layer_.n;
    p.k = layer_.k;
    p.silu_mul = layer_.silu_mul;
    p.norm_weight = layer_.has_norm ? dnorm_.data() : nullptr;
    p.norm_eps = kNormEps;
    p.w_scales = layer_.has_fp8_weights ? dw_scales_.data() : nullptr;
    p.x_scales = layer_.has_fp8_x ? dx_scales_.data() : nullptr;
    return p;
  }

  // NaN everywhere, or what is to be added to.
  void Poison() const {
    const size_t bytes = size_t(layer_.num_rows + 1) * y_stride() * (layer_.is_y_f32 ? 4 : 2);
    ASSERT_EQ(cudaMemset(y_.data(), 0xff, bytes), cudaSuccess);
    if (layer_.adds_in_place) {
      ASSERT_EQ(cudaMemcpy(y_.data(), add_.data(), add_.size() * 2, cudaMemcpyHostToDevice),
                cudaSuccess);
    }
    // The streams of tests do not wait for the default one, and neither call waits for the device.
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  // What column `n` of each row of the product is before any epilogue.
  std::vector<double> Product(int n) const {
    std::vector<double> w(layer_.k);
    for (int k = 0; k < layer_.k; ++k) {
      const size_t i = size_t(n) * layer_.k + k;
      w[k] = layer_.has_fp8_weights ? DecodeFp8(w8_[i]) : Decode(layer_.dtype, w_[i]);
    }
    std::vector<double> sums(layer_.num_rows);
    for (int m = 0; m < layer_.num_rows; ++m) {
      const float* x = decoded_x_.data() + size_t(m) * layer_.k;
      double parts[8] = {};  // independent, so that the compiler keeps them in vectors
      for (int k = 0; k < layer_.k; k += 8) {
        for (int i = 0; i < 8; ++i) parts[i] += double(x[k + i]) * w[k + i];
      }
      for (const double part : parts) sums[m] += part;
      if (layer_.has_fp8_x) sums[m] *= x_scales_[m];
      if (layer_.has_fp8_weights) sums[m] *= w_scales_[n];
    }
    return sums;
  }

  std::vector<double> Expected(int n) const {
    if (layer_.silu_mul) {
      const int gate_row = n / 8 * 16 + n % 8;
      std::vector<double> values = Product(gate_row);
      const std::vector<double> up = Product(gate_row + 8);
      for (int m = 0; m < layer_.num_rows; ++m) values[m] *= up[m] / (1.0 + std::exp(-values[m]));
      return values;
    }
    std::vector<double> values = Product(n);
    for (int m = 0; m < layer_.num_rows; ++m) {
      if (layer_.has_bias) values[m] += Decode(layer_.dtype, bias_[n]);
      if (layer_.has_add || layer_.adds_in_place) {
        values[m] += Decode(layer_.dtype, add_[size_t(m) * y_stride() + n]);
      }
    }
    return values;
  }

  // Every element of y, in rows of y_stride and one row more than the layer has.
  std::vector<float> Output() const {
    const std::vector<uint16_t> raw = y_.Read();
    std::vector<float> out(size_t(layer_.num_rows + 1) * y_stride());
    for (size_t i = 0; i < out.size(); ++i) {
      if (layer_.is_y_f32) {
        std::memcpy(&out[i], &raw[2 * i], 4);
      } else {
        out[i] = Decode(layer_.dtype, raw[i]);
      }
    }
    return out;
  }

  // Compares y with the reference: all columns of small layers, of others some and the last ones.
  void Check() const {
    const std::vector<float> out = Output();
    std::vector<int> columns;
    const double work = double(layer_.num_rows) * layer_.n * layer_.k;
    const int step = std::max(1, static_cast<int>(work / 4e6)) | 1;
    for (int n = 0; n < num_outputs(); n += step) columns.push_back(n);
    for (int n = std::max(0, num_outputs() - 3); n < num_outputs(); ++n) columns.push_back(n);
    double error = 0.0;
    double norm = 0.0;
    for (const int n : columns) {
      const std::vector<double> expected = Expected(n);
      for (int m = 0; m < layer_.num_rows; ++m) {
        const double want = expected[m];
        const double got = out[size_t(m) * y_stride() + n];
        ASSERT_FALSE(std::isnan(got)) << "row " << m << " column " << n << " was not written";
        ASSERT_NEAR(got, want, 0.05 * std::abs(want) + 0.05) << "row " << m << " column " << n;
        error += (got - want) * (got - want);
        norm += want * want;
      }
    }
    const double rounding = layer_.is_y_f32 ? 2e-5 : layer_.dtype == DType::kBF16 ? 3.5e-3 : 5e-4;
    // Tensor cores keep about 14 bits of fp8 sums.
    const double limit = layer_.has_fp8_x ? rounding + 2e-3 : rounding;
    EXPECT_LT(std::sqrt(error / norm), limit);
    CheckPoison(out);
  }

 private:
  static constexpr float kNormEps = 1e-5f;

  float Round(double value) const {
    return Decode(layer_.dtype, Encode(layer_.dtype, static_cast<float>(value)));
  }
  // The rows that the product sees: normalized where the layer does that.
  std::vector<float> DecodedX() const {
    std::vector<float> out(size_t(layer_.num_rows) * layer_.k);
    for (int m = 0; m < layer_.num_rows; ++m) {
      float* row = out.data() + size_t(m) * layer_.k;
      double squares = 0.0;
      for (int k = 0; k < layer_.k; ++k) {
        const size_t i = size_t(m) * x_stride() + k;
        row[k] = layer_.has_fp8_x ? DecodeFp8(x8_[i]) : Decode(layer_.dtype, x_[i]);
        squares += double(row[k]) * row[k];
      }
      if (!layer_.has_norm) continue;
      const double factor = 1.0 / std::sqrt(squares / layer_.k + kNormEps);
      for (int k = 0; k < layer_.k; ++k) {
        row[k] = Round(Round(row[k] * factor) * Decode(layer_.dtype, norm_[k]));
      }
    }
    return out;
  }
  void CheckPoison(const std::vector<float>& out) const {
    for (int m = 0; m <= layer_.num_rows; ++m) {
      const int first = m < layer_.num_rows ? num_outputs() : 0;
      if (m < layer_.num_rows && layer_.adds_in_place) continue;
      for (int n = first; n < y_stride(); ++n) {
        ASSERT_TRUE(std::isnan(out[size_t(m) * y_stride() + n]))
            << "row " << m << " column " << n << " lies outside of y";
      }
    }
  }

  // Numbers that are drawn once and repeated, shifted from row to row: drawing them takes long.
  static constexpr size_t kDrawn = 65521;
  template <typename T>
  static std::vector<T> Repeated(const std::vector<T>& drawn, size_t size) {
    std::vector<T> out(size);
    for (size_t done = 0; done < size; done += drawn.size()) {
      std::copy_n(drawn.begin(), std::min(drawn.size(), size - done), out.begin() + done);
    }
    return out;
  }
  std::vector<uint16_t> Floats(size_t size, float scale, uint64_t* seed) const {
    std::mt19937 random(static_cast<uint32_t>(++*seed));
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<uint16_t> drawn(std::min(size, kDrawn));
    for (uint16_t& v : drawn) v = Encode(layer_.dtype, normal(random));
    return Repeated(drawn, size);
  }
  std::vector<uint8_t> Bytes(size_t size, uint64_t* seed) const {
    if (!layer_.has_fp8_weights) return {};
    std::mt19937 random(static_cast<uint32_t>(++*seed));
    std::vector<uint8_t> drawn(std::min(size, kDrawn));
    for (uint8_t& v : drawn) {
      do v = static_cast<uint8_t>(random());
      while ((v & 0x7f) == 0x7f);
    }
    return Repeated(drawn, size);
  }
  std::vector<float> Scales(size_t size, float scale, uint64_t* seed) const {
    std::mt19937 random(static_cast<uint32_t>(++*seed));
    std::uniform_real_distribution<float> uniform(0.5f * scale / 100.0f, scale / 100.0f);
    std::vector<float> out(size);
    for (float& v : out) v = uniform(random);
    return out;
  }

  Layer layer_;
  std::vector<uint16_t> x_, w_, bias_, norm_, add_;
  std::vector<uint8_t> x8_, w8_;
  std::vector<float> x_scales_, w_scales_;
  DeviceArray<uint16_t> dx_, dw_, dbias_, dnorm_, dadd_;
  DeviceArray<uint8_t> dx8_, dw8_;
  DeviceArray<float> dx_scales_, dw_scales_;
  DeviceArray<uint16_t> y_;
  std::vector<float> decoded_x_;  // [num_rows, k]
};

}  // namespace mili::kernels::cuda

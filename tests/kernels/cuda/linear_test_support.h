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
        y_(size_t(layer.num_rows + 1) * y_stride() * (layer.is_y_f32 ? 2 : 1)) {}

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
  }

  // What row `m`, column `n` of the product is before any epilogue.
  double Product(int m, int n) const {
    double sum = 0.0;
    const double factor = layer_.has_norm ? NormFactor(m) : 1.0;
    for (int k = 0; k < layer_.k; ++k) {
      const size_t xi = size_t(m) * x_stride() + k;
      const size_t wi = size_t(n) * layer_.k + k;
      double x = layer_.has_fp8_x ? DecodeFp8(x8_[xi]) : Decode(layer_.dtype, x_[xi]);
      if (layer_.has_norm) {
        x = Round(Round(x * factor) * Decode(layer_.dtype, norm_[k]));
      }
      const double w = layer_.has_fp8_weights ? DecodeFp8(w8_[wi]) : Decode(layer_.dtype, w_[wi]);
      sum += x * w;
    }
    if (layer_.has_fp8_x) sum *= x_scales_[m];
    if (layer_.has_fp8_weights) sum *= w_scales_[n];
    return sum;
  }

  double Expected(int m, int n) const {
    if (layer_.silu_mul) {
      const int gate_row = n / 8 * 16 + n % 8;
      const double gate = Product(m, gate_row);
      return gate / (1.0 + std::exp(-gate)) * Product(m, gate_row + 8);
    }
    double value = Product(m, n);
    if (layer_.has_bias) value += Decode(layer_.dtype, bias_[n]);
    if (layer_.has_add || layer_.adds_in_place) {
      value += Decode(layer_.dtype, add_[size_t(m) * y_stride() + n]);
    }
    return value;
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
    const int step = std::max(1, static_cast<int>(work / 2e7)) | 1;
    for (int n = 0; n < num_outputs(); n += step) columns.push_back(n);
    for (int n = std::max(0, num_outputs() - 3); n < num_outputs(); ++n) columns.push_back(n);
    double error = 0.0;
    double norm = 0.0;
    for (int m = 0; m < layer_.num_rows; ++m) {
      for (const int n : columns) {
        const double want = Expected(m, n);
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

  double Round(double value) const {
    return Decode(layer_.dtype, Encode(layer_.dtype, static_cast<float>(value)));
  }
  double NormFactor(int m) const {
    double sum = 0.0;
    for (int k = 0; k < layer_.k; ++k) {
      const double x = Decode(layer_.dtype, x_[size_t(m) * x_stride() + k]);
      sum += x * x;
    }
    return 1.0 / std::sqrt(sum / layer_.k + kNormEps);
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

  std::vector<uint16_t> Floats(size_t size, float scale, uint64_t* seed) const {
    std::mt19937 random(static_cast<uint32_t>(++*seed));
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<uint16_t> some(4093);  // drawn from again and again: normal numbers are slow
    for (uint16_t& v : some) v = Encode(layer_.dtype, normal(random));
    std::vector<uint16_t> out(size);
    for (uint16_t& v : out) v = some[random() % some.size()];
    return out;
  }
  std::vector<uint8_t> Bytes(size_t size, uint64_t* seed) const {
    std::mt19937 random(static_cast<uint32_t>(++*seed));
    std::vector<uint8_t> out(layer_.has_fp8_weights ? size : 0);
    for (uint8_t& v : out) {
      do v = static_cast<uint8_t>(random());
      while ((v & 0x7f) == 0x7f);
    }
    return out;
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
};

}  // namespace mili::kernels::cuda

// The kernel that does all layers of a small step against the same in double precision, which
// rounds where blocks exchange rows.
#include "kernels/cuda/decode_layers/decode_layers.h"

#include <cmath>
#include <memory>

#include "tests/kernels/cuda/device_array.h"

namespace mili::kernels::cuda {
namespace {

constexpr int32_t kHidden = 1024, kHeads = 16, kKvHeads = 8, kHeadDim = 128, kInter = 3072;
constexpr int32_t kQSize = kHeads * kHeadDim, kKvSize = kKvHeads * kHeadDim;
constexpr int32_t kQkv = kQSize + 2 * kKvSize;
constexpr int32_t kLayers = 2, kTokensPerPage = 16, kMaxContext = 1100;
constexpr int32_t kPageElements = 2 * kKvSize * kTokensPerPage;
constexpr DecodeLayersShape kShape = {DType::kBF16, kLayers,  kHidden, kHeads,
                                      kKvHeads,     kHeadDim, kInter};

using Row = std::vector<double>;

double Rounded(double x) { return Bf16ToFloat(FloatToBf16(static_cast<float>(x))); }

// A matrix or vector, on both sides.
struct Tensor {
  Tensor(size_t size, std::mt19937& random, float spread, float mean = 0)
      : host(DType::kBF16, size, random, spread), device(WithMean(host, mean)) {}
  static const std::vector<uint16_t>& WithMean(Halves& halves, float mean) {
    for (size_t i = 0; i < halves.bits.size() && mean != 0; ++i) {
      halves.bits[i] = FloatToBf16(halves.values[i] + mean);
      halves.values[i] = Bf16ToFloat(halves.bits[i]);
    }
    return halves.bits;
  }
  Halves host;
  GpuArray<uint16_t> device;
};

struct LayerTensors {
  explicit LayerTensors(std::mt19937& random)
      : input_norm(kHidden, random, 0.2f, 1),
        qkv(size_t{kQkv} * kHidden, random, 0.03f),
        q_norm(kHeadDim, random, 0.2f, 1),
        k_norm(kHeadDim, random, 0.2f, 1),
        o(size_t{kHidden} * kQSize, random, 0.04f),
        post_attention_norm(kHidden, random, 0.2f, 1),
        gate_up(size_t{2 * kInter} * kHidden, random, 0.03f),
        down(size_t{kHidden} * kInter, random, 0.02f) {}
  Tensor input_norm, qkv, q_norm, k_norm, o, post_attention_norm, gate_up, down;
};

Row Times(const Tensor& matrix, const Row& x) {
  Row y(matrix.host.values.size() / x.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const float* row = matrix.host.values.data() + i * x.size();
    for (size_t j = 0; j < x.size(); ++j) y[i] += row[j] * x[j];
  }
  return y;
}

void Norm(double* x, size_t size, const Tensor& weight) {
  double squares = 0;
  for (size_t i = 0; i < size; ++i) squares += x[i] * x[i];
  const double factor = 1 / std::sqrt(squares / static_cast<double>(size) + 1e-6);
  for (size_t i = 0; i < size; ++i) x[i] *= factor * weight.host.values[i];
}

class DecodeLayersGpu : public GpuTest {
 protected:
  static void SetUpTestSuite() {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return;
    std::mt19937 random(7);
    layers_ = new std::vector<std::unique_ptr<LayerTensors>>;
    for (int i = 0; i < kLayers; ++i) layers_->push_back(std::make_unique<LayerTensors>(random));
  }
  static void TearDownTestSuite() { delete layers_; }

  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    cudaDeviceProp device;
    ASSERT_EQ(cudaGetDeviceProperties(&device, 0), cudaSuccess);
    if (!HasDecodeLayers(kShape, device.multiProcessorCount, device.major * 10 + device.minor)) {
      GTEST_SKIP() << "no kernel for this device";
    }
  }

  // A step of sequences of these lengths; 0 is padding.
  void Check(const std::vector<int32_t>& lens) {
    Prepare(lens);
    const GpuArray<uint16_t> residual(start_.bits);
    std::vector<std::unique_ptr<GpuArray<uint16_t>>> pages;
    std::vector<DecodeLayer> layers;
    for (int i = 0; i < kLayers; ++i) {
      const LayerTensors& t = *(*layers_)[i];
      pages.push_back(std::make_unique<GpuArray<uint16_t>>(kv_[i]));
      layers.push_back({t.input_norm.device.data(), t.qkv.device.data(), t.q_norm.device.data(),
                        t.k_norm.device.data(), t.o.device.data(),
                        t.post_attention_norm.device.data(), t.gate_up.device.data(),
                        t.down.device.data(), pages.back()->data()});
    }
    const GpuArray<float> cos(cos_), sin(sin_);
    const GpuArray<int32_t> positions(positions_), slots(slots_), table(table_), d_lens(lens);
    const GpuArray<uint8_t> workspace{std::vector<uint8_t>(DecodeLayersWorkspaceBytes())};
    DecodeLayersParams params = {.shape = kShape,
                                 .layers = layers.data(),
                                 .num_rows = static_cast<int32_t>(lens.size()),
                                 .scale = 1 / std::sqrt(float{kHeadDim}),
                                 .residual = residual.data(),
                                 .rope_cos = cos.data(),
                                 .rope_sin = sin.data(),
                                 .positions = positions.data(),
                                 .slot_map = slots.data(),
                                 .page_table = table.data(),
                                 .page_table_stride = table_stride_,
                                 .context_lens = d_lens.data(),
                                 .page_stride = kPageElements,
                                 .workspace = workspace.data()};
    ASSERT_EQ(DecodeLayers(params, nullptr), cudaSuccess);
    const std::vector<uint16_t> got = residual.Read();
    // Twice more: what a launch leaves behind is fit for the next, and bits do not depend on time.
    for (int i = 0; i < 2; ++i) {
      ASSERT_EQ(cudaMemcpy(residual.data(), start_.bits.data(), start_.bits.size() * 2,
                           cudaMemcpyHostToDevice),
                cudaSuccess);
      ASSERT_EQ(DecodeLayers(params, nullptr), cudaSuccess);
      ASSERT_EQ(residual.Read(), got);
    }
    for (size_t r = 0; r < lens.size(); ++r) {
      if (lens[r] == 0) continue;
      SCOPED_TRACE(testing::Message() << "row " << r << " of " << lens[r] << " tokens");
      ExpectNear(got.data() + r * kHidden, Reference(static_cast<int32_t>(r), lens[r]));
    }
    // K and V of the new tokens, by Reference, and nothing else.
    for (int i = 0; i < kLayers; ++i) {
      const std::vector<uint16_t> kv = pages[i]->Read();
      for (size_t at = 0; at < kv.size(); ++at) {
        const float want = Bf16ToFloat(kv_[i][at]);
        if (std::isnan(want)) {
          ASSERT_EQ(kv[at], kv_[i][at]) << "layer " << i << " element " << at << " was written";
        } else {
          ASSERT_NEAR(Bf16ToFloat(kv[at]), want, 0.05 + 0.03 * std::fabs(want))
              << "layer " << i << " element " << at;
        }
      }
    }
  }

 private:
  void Prepare(const std::vector<int32_t>& lens) {
    start_ = Halves(DType::kBF16, lens.size() * kHidden, random_);
    cos_.clear();
    sin_.clear();
    for (int32_t position = 0; position < kMaxContext; ++position) {
      for (int32_t i = 0; i < kHeadDim / 2; ++i) {
        const double angle = position * std::pow(1e6, -2.0 * i / kHeadDim);
        cos_.push_back(static_cast<float>(std::cos(angle)));
        sin_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    table_stride_ = kMaxContext / kTokensPerPage + 1;
    table_.assign(lens.size() * table_stride_, -1);
    positions_.assign(lens.size(), 0);
    slots_.assign(lens.size(), -1);
    std::vector<int32_t> free(lens.size() * table_stride_);
    for (size_t i = 0; i < free.size(); ++i) free[i] = static_cast<int32_t>(i);
    std::shuffle(free.begin(), free.end(), random_);
    // NaN wherever no token of an earlier step is.
    kv_.assign(kLayers, std::vector<uint16_t>(free.size() * kPageElements, 0x7fff));
    for (size_t r = 0; r < lens.size(); ++r) {
      for (int32_t t = 0; t < lens[r]; ++t) {
        int32_t& page = table_[r * table_stride_ + t / kTokensPerPage];
        if (t % kTokensPerPage == 0) {
          page = free.back();
          free.pop_back();
        }
        positions_[r] = t;
        slots_[r] = page * kTokensPerPage + t % kTokensPerPage;
        if (t + 1 == lens[r]) continue;
        for (std::vector<uint16_t>& kv : kv_) {
          const Halves token(DType::kBF16, 2 * kKvSize, random_, 2);
          for (int32_t i = 0; i < 2 * kKvSize; ++i) kv[At(slots_[r], i)] = token.bits[i];
        }
      }
    }
  }
  // Of element i of a token's K and V.
  static size_t At(int32_t slot, int32_t i) {
    return size_t(slot) / kTokensPerPage * kPageElements +
           size_t(i / kHeadDim) * kTokensPerPage * kHeadDim +
           size_t(slot) % kTokensPerPage * kHeadDim + i % kHeadDim;
  }

  // The row after all layers; puts its K and V into kv_.
  Row Reference(int32_t r, int32_t len) {
    Row x(start_.values.begin() + r * kHidden, start_.values.begin() + (r + 1) * kHidden);
    for (int32_t i = 0; i < kLayers; ++i) {
      const LayerTensors& t = *(*layers_)[i];
      Row normed = x;
      Norm(normed.data(), kHidden, t.input_norm);
      const Row attention = Times(t.o, Attend(Times(t.qkv, normed), t, i, r, len));
      for (int32_t j = 0; j < kHidden; ++j) x[j] = Rounded(x[j] + attention[j]);
      normed = x;
      Norm(normed.data(), kHidden, t.post_attention_norm);
      const Row gate_up = Times(t.gate_up, normed);
      Row activation(kInter);
      for (int32_t j = 0; j < kInter; ++j) {
        const double gate = gate_up[j / 8 * 16 + j % 8];
        activation[j] = Rounded(gate / (1 + std::exp(-gate)) * gate_up[j / 8 * 16 + 8 + j % 8]);
      }
      const Row mlp = Times(t.down, activation);
      for (int32_t j = 0; j < kHidden; ++j) x[j] = Rounded(x[j] + mlp[j]);
    }
    return x;
  }
  Row Attend(Row qkv, const LayerTensors& t, int32_t layer, int32_t r, int32_t len) {
    for (double& v : qkv) v = Rounded(v);
    for (int32_t head = 0; head < kHeads + kKvHeads; ++head) {
      double* v = qkv.data() + head * kHeadDim;
      Norm(v, kHeadDim, head < kHeads ? t.q_norm : t.k_norm);
      for (int32_t i = 0; i < kHeadDim / 2; ++i) {
        const double c = cos_[size_t(len - 1) * kHeadDim / 2 + i];
        const double s = sin_[size_t(len - 1) * kHeadDim / 2 + i];
        const double a = v[i], b = v[i + kHeadDim / 2];
        v[i] = a * c - b * s;
        v[i + kHeadDim / 2] = b * c + a * s;
      }
    }
    std::vector<uint16_t>& kv = kv_[layer];
    for (int32_t i = 0; i < 2 * kKvSize; ++i) {
      kv[At(slots_[r], i)] = FloatToBf16(static_cast<float>(qkv[kQSize + i]));
    }
    Row out(kQSize);
    for (int32_t head = 0; head < kHeads; ++head) {
      const int32_t first = head / (kHeads / kKvHeads) * kHeadDim;
      const auto kv_at = [&](int32_t token, int32_t i) {
        const int32_t page = table_[r * table_stride_ + token / kTokensPerPage];
        return double{
            Bf16ToFloat(kv[At(page * kTokensPerPage + token % kTokensPerPage, first + i)])};
      };
      double sum = 0;
      for (int32_t token = 0; token < len; ++token) {
        double score = 0;
        for (int32_t i = 0; i < kHeadDim; ++i) {
          score += qkv[head * kHeadDim + i] * kv_at(token, i);
        }
        const double weight = std::exp(score / std::sqrt(double{kHeadDim}));
        sum += weight;
        for (int32_t i = 0; i < kHeadDim; ++i) {
          out[head * kHeadDim + i] += weight * kv_at(token, kKvSize + i);
        }
      }
      for (int32_t i = 0; i < kHeadDim; ++i) {
        double& o = out[head * kHeadDim + i];
        o = Rounded(o / sum);
      }
    }
    return out;
  }

  static void ExpectNear(const uint16_t* got, const Row& want) {
    double error = 0, size = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double difference = Bf16ToFloat(got[i]) - want[i];
      error += difference * difference;
      size += want[i] * want[i];
    }
    EXPECT_LT(std::sqrt(error / size), 0.01);  // products of bf16 rows give some 0.005
  }

  static inline std::vector<std::unique_ptr<LayerTensors>>* layers_ = nullptr;
  std::mt19937 random_{std::random_device()()};
  Halves start_{DType::kBF16, 0, random_};
  std::vector<float> cos_, sin_;
  std::vector<int32_t> positions_, slots_, table_;
  int32_t table_stride_ = 0;
  std::vector<std::vector<uint16_t>> kv_;
};

TEST_F(DecodeLayersGpu, OneSequenceOfAnyLength) {
  for (const int32_t len : {1, 2, 16, 17, 100, 257, 1024, 1057}) Check({len});
}

TEST_F(DecodeLayersGpu, SequencesOfAlikeAndUnlikeLengths) {
  Check({256, 256});
  Check({1, 700});
  Check({17, 80, 300, 33});
  Check({1000, 3, 3, 3});
  Check({64, 1, 16, 15, 250, 31, 129, 2});
  Check({5, 5, 5, 1099, 5, 5, 5, 5});
}

TEST_F(DecodeLayersGpu, PaddingIsLeftAlone) {
  Check({40, 0});
  Check({0, 0, 300, 0});
  Check({0, 18, 0, 40, 500, 0, 0, 0});
}

TEST_F(DecodeLayersGpu, RefusesOtherShapes) {
  EXPECT_FALSE(HasDecodeLayers(kShape, 127, 90));
  EXPECT_FALSE(HasDecodeLayers(kShape, 132, 80));
  DecodeLayersShape other = kShape;
  other.hidden_size = 2048;
  EXPECT_FALSE(HasDecodeLayers(other, 132, 90));
  DecodeLayersParams params = {.shape = kShape, .num_rows = 3};
  EXPECT_EQ(DecodeLayers(params, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace mili::kernels::cuda

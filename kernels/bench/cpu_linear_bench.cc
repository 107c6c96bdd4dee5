// Products of every type, one token's in each way that its weights can be read, and what they take
// over from their neighbours: beside it the same by kernels of their own.
#include <cstring>
#include <vector>

#include "kernels/bench/cpu_bench.h"

namespace mili::kernels {
namespace {

// The instructions that a type of weights is multiplied by.
Arithmetic ArithmeticOf(DType dtype, const CpuKernels& table) {
  if (dtype == DType::kF32 || dtype == DType::kF16) return Arithmetic::kFp32;
  if (dtype != DType::kBF16) return Arithmetic::kInt8;
  if (std::strcmp(table.name, "amx") == 0) return Arithmetic::kBf16;
  return std::strncmp(table.name, "avx", 3) == 0 ? Arithmetic::kInt16 : Arithmetic::kFp32;
}

// Matrices of one type that share x, one after the other in a stretch of memory.
class Matrices {
 public:
  Matrices(const Setup& setup, DType dtype, std::vector<int64_t> rows, int64_t cols,
           int64_t num_tokens)
      : setup_(setup),
        rows_(std::move(rows)),
        x_(num_tokens * cols, 0.5f),
        workspace_(RandomBytes(setup.table.linear_workspace_bytes(num_tokens, cols))) {
    params_.x = x_.data();
    params_.num_tokens = num_tokens;
    params_.in_features = cols;
    params_.num_parts = static_cast<int>(rows_.size());
    params_.workspace = workspace_.get();
    for (size_t i = 0; i < rows_.size(); ++i) {
      // Random bytes are as good packed as stored.
      const size_t packed = setup.table.packed_bytes(dtype, rows_[i], cols);
      const size_t bytes = packed != 0 ? packed : rows_[i] * RowBytes(dtype, cols);
      y_.emplace_back(num_tokens * rows_[i]);
      params_.parts[i] = {
          {dtype, nullptr, rows_[i], cols, packed != 0}, nullptr, y_[i].data(), rows_[i]};
      offsets_.push_back(bytes_);
      bytes_ += (bytes + 63) / 64 * 64;
      macs_ += rows_[i] * cols * num_tokens;
    }
  }
  size_t bytes() const { return bytes_; }
  int64_t macs() const { return macs_; }
  float* y(int part) { return y_[part].data(); }
  LinearParams& params() { return params_; }

  void Multiply(const std::byte* weights) {
    for (size_t i = 0; i < offsets_.size(); ++i) {
      params_.parts[i].weight.data = weights + offsets_[i];
    }
    setup_.table.linear(params_, setup_.pool);
  }
  // Each by a call of its own.
  void MultiplyApart(const std::byte* weights) {
    for (size_t i = 0; i < offsets_.size(); ++i) {
      LinearParams params = params_;
      params.num_parts = 1;
      params.parts[0] = params_.parts[i];
      params.parts[0].weight.data = weights + offsets_[i];
      setup_.table.linear(params, setup_.pool);
    }
  }

 private:
  const Setup& setup_;
  const std::vector<int64_t> rows_;
  std::vector<float> x_;
  const Buffer workspace_;
  std::vector<std::vector<float>> y_;
  std::vector<size_t> offsets_;
  size_t bytes_ = 0;
  int64_t macs_ = 0;
  LinearParams params_;
};

void BenchLinear(benchmark::State& state, Setup& setup, DType dtype, int64_t num_tokens,
                 OneTokenStream one_token) {
  Matrices matrices(setup, dtype, {3072}, 2048, num_tokens);
  matrices.params().one_token = one_token;
  Stretches stretches(setup, matrices.bytes());
  MeasureCold(state, stretches, [&](const std::byte* weights) { matrices.Multiply(weights); });
  ReportMacs(state, matrices.macs(), ArithmeticOf(dtype, setup.table), setup);
}

// Qwen3-0.6B's: a row's norm, then q, k and v.
void BenchNormQkv(benchmark::State& state, Setup& setup, DType dtype, int64_t num_tokens,
                  bool is_fused) {
  constexpr int64_t kHidden = 1024;
  Matrices matrices(setup, dtype, {2048, 1024, 1024}, kHidden, num_tokens);
  std::vector<float> residual(num_tokens * kHidden, 1), delta(residual.size(), 0.001f);
  std::vector<float> weight(kHidden, 1), normed(residual.size());
  const AddRmsNormParams norm = {residual.data(), delta.data(), weight.data(), 1e-5f,
                                 num_tokens,      kHidden,      normed.data()};
  matrices.params().x = normed.data();
  if (is_fused) matrices.params().norm = &norm;
  Stretches stretches(setup, matrices.bytes());
  MeasureCold(state, stretches, [&](const std::byte* weights) {
    if (is_fused) return matrices.Multiply(weights);
    setup.table.add_rms_norm(norm, setup.pool);
    matrices.MultiplyApart(weights);
  });
  ReportMacs(state, matrices.macs(), ArithmeticOf(dtype, setup.table), setup);
}

// Qwen3-0.6B's gate and up with SiLU.
void BenchGateUp(benchmark::State& state, Setup& setup, DType dtype, int64_t num_tokens,
                 bool is_fused) {
  constexpr int64_t kInner = 3072;
  Matrices matrices(setup, dtype, {kInner, kInner}, 1024, num_tokens);
  matrices.params().silu_mul = is_fused;
  Stretches stretches(setup, matrices.bytes());
  MeasureCold(state, stretches, [&](const std::byte* weights) {
    if (is_fused) return matrices.Multiply(weights);
    matrices.MultiplyApart(weights);
    setup.table.silu_mul({matrices.y(0), matrices.y(1), num_tokens, kInner, matrices.y(0)},
                         setup.pool);
  });
  ReportMacs(state, matrices.macs(), ArithmeticOf(dtype, setup.table), setup);
}

}  // namespace

void RegisterLinear(Setup& setup) {
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
        DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const std::string name = "linear/" + std::string(NameOf(dtype));
    for (const int64_t tokens : {1, 2, 4, 8, 12, 16, 512}) {
      Add(name + "/tokens:" + std::to_string(tokens), [&setup, dtype, tokens](auto& s) {
        BenchLinear(s, setup, dtype, tokens, OneTokenStream::kOfCpu);
      });
    }
  }
  const std::pair<const char*, OneTokenStream> ways[] = {{"plain", OneTokenStream::kPlain},
                                                         {"once", OneTokenStream::kOnce},
                                                         {"two", OneTokenStream::kTwo}};
  for (const DType dtype : {DType::kBF16, DType::kQ8_0, DType::kQ4_1, DType::kQ4_K}) {
    const std::string name(NameOf(dtype));
    for (const auto& [way, one_token] : ways) {
      Add("one_token/" + name + "/" + way,
          [&setup, dtype, w = one_token](auto& s) { BenchLinear(s, setup, dtype, 1, w); });
    }
  }
  for (const DType dtype : {DType::kBF16, DType::kQ8_0, DType::kQ4_1}) {
    for (const int64_t tokens : {1, 8, 512}) {
      for (const bool is_fused : {true, false}) {
        const std::string name = std::string(NameOf(dtype)) + "/tokens:" + std::to_string(tokens) +
                                 (is_fused ? "/one_pass" : "/apart");
        Add("norm_qkv/" + name, [&setup, dtype, tokens, is_fused](auto& s) {
          BenchNormQkv(s, setup, dtype, tokens, is_fused);
        });
        Add("gate_up_silu/" + name, [&setup, dtype, tokens, is_fused](auto& s) {
          BenchGateUp(s, setup, dtype, tokens, is_fused);
        });
      }
    }
  }
}

}  // namespace mili::kernels

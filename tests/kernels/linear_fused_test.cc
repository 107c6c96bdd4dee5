// What Linear takes over from its neighbours, the norm before it and SiLU after it, gives the bits
// that the kernels give one by one.
#include <tuple>

#include "tests/kernels/linear_test_support.h"

namespace mili::kernels {
namespace {

constexpr int64_t kCols = 512;

class LinearFusedTest : public testing::TestWithParam<std::string> {
 protected:
  const CpuKernels& table() const { return TableOf(GetParam()); }
  std::mt19937 rng_{5};
};

// Rows with their norm, then gate and up and SiLU; in one call or in three.
struct Mlp {
  std::vector<float> residual, delta, norm_weight, normed, gate_out, up_out;

  void Run(const CpuKernels& table, bool is_fused, const Matrix& gate, const Matrix& up,
           int64_t num_tokens, int num_threads) {
    SpawningPool pool(num_threads);
    normed = Poisoned(num_tokens * kCols);
    gate_out = Poisoned(num_tokens * gate.rows);
    up_out = Poisoned(num_tokens * up.rows);
    const AddRmsNormParams norm = {residual.data(), delta.data(), norm_weight.data(), 1e-5f,
                                   num_tokens,      kCols,        normed.data()};
    Workspace workspace(table.linear_workspace_bytes(num_tokens, kCols));
    LinearParams params;
    params.x = normed.data();
    params.num_tokens = num_tokens;
    params.in_features = kCols;
    params.parts[0] = {gate, nullptr, gate_out.data(), gate.rows};
    params.parts[1] = {up, nullptr, up_out.data(), up.rows};
    params.num_parts = 2;
    params.workspace = workspace.data();
    if (is_fused) {
      params.norm = &norm;
      params.silu_mul = true;
      return table.linear(params, pool);
    }
    table.add_rms_norm(norm, pool);
    table.linear(params, pool);
    table.silu_mul({gate_out.data(), up_out.data(), num_tokens, gate.rows, gate_out.data()}, pool);
  }
};

TEST_P(LinearFusedTest, GivesTheBitsOfItsParts) {
  // Of one kind, and of two, which are multiplied one after the other.
  for (const auto& [gate_type, up_type] : {std::pair{DType::kF32, DType::kF32},
                                           {DType::kF16, DType::kF16},
                                           {DType::kBF16, DType::kBF16},
                                           {DType::kQ8_0, DType::kQ8_0},
                                           {DType::kQ4_K, DType::kQ6_K},
                                           {DType::kQ4_0, DType::kBF16},
                                           {DType::kF32, DType::kQ4_1}}) {
    for (const auto& [num_tokens, rows] :
         {std::pair<int64_t, int64_t>{1, 64}, {3, 37}, {8, 160}, {21, 64}, {70, 33}, {700, 17}}) {
      const RandomMatrix gate(gate_type, rows, kCols, rng_), up(up_type, rows, kCols, rng_);
      const LaidOut gate_out(table(), gate.matrix()), up_out(table(), up.matrix());
      Mlp split;
      split.residual = RandomFloats(num_tokens * kCols, rng_);
      split.delta = RandomFloats(num_tokens * kCols, rng_);
      split.norm_weight = RandomFloats(kCols, rng_);
      for (const int num_threads : {1, 3}) {
        Mlp parts = split, fused = split;
        parts.Run(table(), false, gate_out.matrix(), up_out.matrix(), num_tokens, 1);
        fused.Run(table(), true, gate_out.matrix(), up_out.matrix(), num_tokens, num_threads);
        const auto what = testing::Message() << NameOf(gate_type) << " and " << NameOf(up_type)
                                             << ", " << num_tokens << " x " << rows;
        EXPECT_TRUE(SameBits(fused.residual, parts.residual)) << what;
        EXPECT_TRUE(SameBits(fused.normed, parts.normed)) << what;
        EXPECT_TRUE(SameBits(fused.gate_out, parts.gate_out)) << what;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, LinearFusedTest, testing::ValuesIn(AllTables()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mili::kernels

// Whichever way a CPU reads the weights of one token, the products have the same bits: every way of
// every table, and of the portable code, whose table knows one only.
#include "kernels/cpu/isa_portable.h"
#include "kernels/cpu/linear_inl.h"
#include "tests/kernels/linear_test_support.h"

namespace mili::kernels {
namespace {

struct IsaOfAllWays : Isa {
  static OneTokenStream StreamOfOneToken() { return OneTokenStream::kPlain; }
};

constexpr int64_t kCols = 512;

using LinearFunction = void (*)(const LinearParams&, ParallelFor&);

// Three parts of a type, of rows that fill no vector, or gate and up with SiLU.
std::vector<float> Products(const CpuKernels& table, LinearFunction linear, OneTokenStream way,
                            DType dtype, bool has_silu, int num_threads) {
  std::mt19937 rng(3);
  const std::vector<int64_t> rows =
      has_silu ? std::vector<int64_t>{37, 37} : std::vector<int64_t>{70, 1, 23};
  const std::vector<float> x = RandomFloats(kCols, rng), bias = RandomFloats(100, rng);
  std::vector<float> y = Poisoned(300);
  Workspace workspace(table.linear_workspace_bytes(1, kCols));
  std::vector<RandomMatrix> matrices;
  std::vector<LaidOut> laid_out;
  LinearParams params;
  params.x = x.data();
  params.one_token = way;
  params.num_tokens = 1;
  params.in_features = kCols;
  params.num_parts = static_cast<int>(rows.size());
  params.workspace = workspace.data();
  params.silu_mul = has_silu;
  for (const int64_t count : rows) matrices.emplace_back(dtype, count, kCols, rng);
  for (const RandomMatrix& matrix : matrices) laid_out.emplace_back(table, matrix.matrix());
  for (size_t i = 0; i < rows.size(); ++i) {
    params.parts[i] = {laid_out[i].matrix(), has_silu ? nullptr : bias.data(), y.data() + 100 * i,
                       rows[i]};
  }
  SpawningPool pool(num_threads);
  linear(params, pool);
  y.resize(has_silu ? 37 : 300);  // what SiLU leaves of up means nothing
  return y;
}

void ExpectTheSameBits(const CpuKernels& table, LinearFunction linear) {
  for (const DType dtype : kAllDTypes) {
    for (const bool has_silu : {false, true}) {
      for (const int num_threads : {1, 3}) {
        SCOPED_TRACE(testing::Message() << NameOf(dtype) << (has_silu ? ", SiLU, " : ", ")
                                        << num_threads << " threads");
        const auto products = [&](OneTokenStream way) {
          return Products(table, linear, way, dtype, has_silu, num_threads);
        };
        const auto expected = products(OneTokenStream::kPlain);
        EXPECT_FALSE(std::isnan(expected[0]));
        for (const OneTokenStream way :
             {OneTokenStream::kOfCpu, OneTokenStream::kOnce, OneTokenStream::kTwo}) {
          const auto actual = products(way);
          EXPECT_EQ(std::memcmp(expected.data(), actual.data(), 4 * expected.size()), 0)
              << "way " << static_cast<int>(way);
        }
      }
    }
  }
}

class OneTokenTest : public testing::TestWithParam<std::string> {};

TEST_P(OneTokenTest, GetsTheSameBitsHoweverItsWeightsAreRead) {
  ExpectTheSameBits(TableOf(GetParam()), TableOf(GetParam()).linear);
}

INSTANTIATE_TEST_SUITE_P(Tables, OneTokenTest, testing::ValuesIn(RunnableTables()),
                         [](const auto& info) { return info.param; });

TEST(OneTokenOfPortableCodeTest, GetsTheSameBitsHoweverItsWeightsAreRead) {
  ExpectTheSameBits(*FindCpuKernels("portable"), Linear<IsaOfAllWays>);
}

}  // namespace
}  // namespace mili::kernels

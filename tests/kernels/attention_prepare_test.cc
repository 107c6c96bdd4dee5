// Attention that prepares q, k and v itself: the bits of the two passes one after the other.
#include <algorithm>
#include <numeric>
#include <tuple>

#include "tests/kernels/kernel_test_support.h"
#include "tests/support/spawning_pool.h"

namespace mili::kernels {
namespace {

struct Shape {
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t page_size;
  bool has_norm;
};

constexpr int64_t kMaxContext = 96;

// What a step leaves behind.
struct Outcome {
  std::vector<float> out;
  std::vector<float> q;
  std::vector<std::byte> kv;
};

// A step of some sequences whose pages hold what came before.
class Step {
 public:
  Step(const Shape& shape, DType kv_dtype, const std::vector<int64_t>& num_new,
       const std::vector<int64_t>& contexts, std::mt19937& rng)
      : shape_(shape), contexts_(contexts) {
    const int64_t pages_a_seq = kMaxContext / shape.page_size;
    const auto num_seqs = static_cast<int64_t>(contexts.size());
    layer_.dtype = kv_dtype;
    layer_.page_size_tokens = shape.page_size;
    layer_.head_stride = shape.page_size * shape.head_dim;
    layer_.page_stride = 2 * shape.num_kv_heads * layer_.head_stride;
    for (const float value : RandomFloats(num_seqs * pages_a_seq * layer_.page_stride, rng)) {
      const uint16_t bf16 = FloatToBf16(value);
      const auto* from = kv_dtype == DType::kF32 ? reinterpret_cast<const std::byte*>(&value)
                                                 : reinterpret_cast<const std::byte*>(&bf16);
      kv_.insert(kv_.end(), from, from + TraitsOf(kv_dtype).block_bytes);
    }
    page_table_.resize(num_seqs * pages_a_seq);
    std::iota(page_table_.begin(), page_table_.end(), 0u);
    std::shuffle(page_table_.begin(), page_table_.end(), rng);
    for (int64_t s = 0; s < num_seqs; ++s) {
      for (int64_t position = contexts[s] - num_new[s]; position < contexts[s]; ++position) {
        positions_.push_back(static_cast<uint32_t>(position));
        slots_.push_back(page_table_[s * pages_a_seq + position / shape.page_size] *
                             shape.page_size +
                         position % shape.page_size);
      }
      cu_seqlens_.push_back(static_cast<int64_t>(slots_.size()));
    }
    q_ = RandomFloats(slots_.size() * QSize(), rng);
    k_ = RandomFloats(slots_.size() * KvSize(), rng);
    v_ = RandomFloats(slots_.size() * KvSize(), rng);
    norm_ = RandomFloats(shape.head_dim, rng);
    angles_ = RandomFloats(kMaxContext * shape.head_dim / 2, rng);
  }

  Outcome Run(const CpuKernels& table, bool is_one_pass, int num_threads) const {
    Outcome result = {Poisoned(q_.size()), q_, kv_};
    std::vector<float> k = k_;
    SpawningPool pool(num_threads);
    KvLayer layer = layer_;
    layer.k = result.kv.data();
    layer.v = layer.k + shape_.num_kv_heads * layer.head_stride * TraitsOf(layer.dtype).block_bytes;
    const float* norm = shape_.has_norm ? norm_.data() : nullptr;
    const QkvPrepareParams prepare = {.q = result.q.data(),
                                      .k = k.data(),
                                      .v = v_.data(),
                                      .q_stride = QSize(),
                                      .kv_stride = KvSize(),
                                      .q_norm = norm,
                                      .k_norm = norm,
                                      .rope_cos = angles_.data(),
                                      .rope_sin = angles_.data(),
                                      .positions = positions_.data(),
                                      .slot_map = slots_.data(),
                                      .num_tokens = static_cast<int64_t>(slots_.size()),
                                      .num_heads = shape_.num_heads,
                                      .num_kv_heads = shape_.num_kv_heads,
                                      .head_dim = shape_.head_dim,
                                      .kv = layer};
    if (!is_one_pass) table.qkv_prepare(prepare, pool);
    table.paged_attention({.q = result.q.data(),
                           .q_stride = QSize(),
                           .out = result.out.data(),
                           .cu_seqlens = cu_seqlens_.data(),
                           .context_lens = contexts_.data(),
                           .page_table = page_table_.data(),
                           .page_table_stride = kMaxContext / shape_.page_size,
                           .num_seqs = static_cast<int64_t>(contexts_.size()),
                           .num_heads = shape_.num_heads,
                           .num_kv_heads = shape_.num_kv_heads,
                           .head_dim = shape_.head_dim,
                           .scale = 0.125f,
                           .kv = layer,
                           .prepare = is_one_pass ? &prepare : nullptr},
                          pool);
    return result;
  }

 private:
  int64_t QSize() const { return shape_.num_heads * shape_.head_dim; }
  int64_t KvSize() const { return shape_.num_kv_heads * shape_.head_dim; }

  const Shape shape_;
  const std::vector<int64_t> contexts_;
  KvLayer layer_;
  std::vector<std::byte> kv_;
  std::vector<uint32_t> page_table_;
  std::vector<uint32_t> positions_;
  std::vector<int64_t> slots_;
  std::vector<int64_t> cu_seqlens_ = {0};
  std::vector<float> q_, k_, v_, norm_, angles_;
};

class AttentionPrepareTest : public testing::TestWithParam<std::tuple<std::string, Shape, DType>> {
};

TEST_P(AttentionPrepareTest, OnePassGivesTheBitsOfTwo) {
  const auto& [name, shape, kv_dtype] = GetParam();
  std::mt19937 rng(7);
  const std::vector<int64_t> contexts = {1, 16, 33, 70, 96};
  for (const std::vector<int64_t>& num_new :
       {std::vector<int64_t>{1, 1, 1, 1, 1}, {1, 1, 3, 1, 20}}) {
    const Step step(shape, kv_dtype, num_new, contexts, rng);
    const Outcome expected = step.Run(TableOf(name), false, 1);
    for (const int num_threads : {1, 2, 5}) {
      const Outcome actual = step.Run(TableOf(name), true, num_threads);
      EXPECT_TRUE(SameBits(expected.out, actual.out)) << num_threads;
      EXPECT_TRUE(SameBits(expected.q, actual.q)) << num_threads;
      EXPECT_EQ(expected.kv, actual.kv) << num_threads;
    }
  }
}

std::string NameOf(const testing::TestParamInfo<std::tuple<std::string, Shape, DType>>& info) {
  const auto& [table, s, dtype] = info.param;
  std::ostringstream name;
  name << table << "_" << s.num_heads << "_" << s.num_kv_heads << "_" << s.head_dim << "_page"
       << s.page_size << "_" << TraitsOf(dtype).name;
  return name.str();
}

INSTANTIATE_TEST_SUITE_P(
    Tables, AttentionPrepareTest,
    testing::Combine(testing::ValuesIn(AllTables()),
                     testing::Values(Shape{9, 3, 64, 16, false}, Shape{4, 2, 128, 16, true},
                                     Shape{3, 3, 32, 32, true}, Shape{8, 2, 64, 16, false},
                                     Shape{5, 1, 64, 16, false}, Shape{2, 1, 22, 8, true}),
                     testing::Values(DType::kBF16, DType::kF32)),
    NameOf);

}  // namespace
}  // namespace mili::kernels

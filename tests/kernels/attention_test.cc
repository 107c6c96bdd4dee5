// Paged attention of every table: against a plain fp64 softmax, and the same bits however the
// tokens are cut into calls and threads.
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
  DType kv_dtype;
};

// Sequences of the given contexts with their KV in shuffled pages; what no sequence owns is NaN.
class AttentionCase {
 public:
  AttentionCase(const Shape& shape, std::vector<int64_t> contexts, std::mt19937& rng)
      : shape_(shape), contexts_(std::move(contexts)) {
    int64_t num_pages = 0;
    for (int64_t context : contexts_) {
      stride_ = std::max(stride_, PagesOf(context) + 1);
      num_pages += PagesOf(context);
    }
    num_pages += 3;
    std::vector<uint32_t> pages(num_pages);
    std::iota(pages.begin(), pages.end(), 0u);
    std::shuffle(pages.begin(), pages.end(), rng);
    layer_.dtype = shape.kv_dtype;
    layer_.page_size_tokens = shape.page_size;
    layer_.head_stride = shape.page_size * shape.head_dim;
    layer_.page_stride = 2 * shape.num_kv_heads * layer_.head_stride;
    const size_t bytes = num_pages * layer_.page_stride * TraitsOf(shape.kv_dtype).block_bytes;
    kv_.assign(bytes, std::byte{0xff});  // NaN in both types
    layer_.k = kv_.data();
    layer_.v =
        kv_.data() + shape.num_kv_heads * layer_.head_stride * TraitsOf(shape.kv_dtype).block_bytes;
    page_table_.assign(contexts_.size() * stride_, 0xffffffffu);
    size_t next = 0;
    for (size_t seq = 0; seq < contexts_.size(); ++seq) {
      for (int64_t i = 0; i < PagesOf(contexts_[seq]); ++i) {
        page_table_[seq * stride_ + i] = pages[next++];
      }
      for (int64_t position = 0; position < contexts_[seq]; ++position) Fill(seq, position, rng);
      q_.push_back(RandomFloats(contexts_[seq] * shape.num_heads * shape.head_dim, rng, 1.5f));
    }
  }

  // Output rows of the positions [begin[s], end[s]) of each sequence s, computed in one call.
  std::vector<float> Run(const CpuKernels& table, const std::vector<int64_t>& begin,
                         const std::vector<int64_t>& end, int num_threads) const {
    const int64_t row = shape_.num_heads * shape_.head_dim;
    constexpr int64_t kGap = 5;
    std::vector<int64_t> cu_seqlens = {0};
    std::vector<float> q;
    for (size_t s = 0; s < contexts_.size(); ++s) {
      for (int64_t i = begin[s]; i < end[s]; ++i) {
        q.insert(q.end(), q_[s].begin() + i * row, q_[s].begin() + (i + 1) * row);
        q.insert(q.end(), kGap, std::numeric_limits<float>::quiet_NaN());
      }
      cu_seqlens.push_back(cu_seqlens.back() + end[s] - begin[s]);
    }
    std::vector<float> out = Poisoned(cu_seqlens.back() * row);
    PagedAttentionParams params;
    params.q = q.data();
    params.q_stride = row + kGap;
    params.out = out.data();
    params.cu_seqlens = cu_seqlens.data();
    params.context_lens = end.data();
    params.page_table = page_table_.data();
    params.page_table_stride = stride_;
    params.num_seqs = static_cast<int64_t>(contexts_.size());
    params.num_heads = shape_.num_heads;
    params.num_kv_heads = shape_.num_kv_heads;
    params.head_dim = shape_.head_dim;
    params.scale = Scale();
    params.kv = layer_;
    SpawningPool pool(num_threads);
    table.paged_attention(params, pool);
    return out;
  }

  std::vector<float> Expected() const {
    std::vector<float> out;
    for (size_t s = 0; s < contexts_.size(); ++s) {
      for (int64_t i = 0; i < contexts_[s]; ++i) {
        for (int64_t h = 0; h < shape_.num_heads; ++h) {
          const auto head = ExpectedHead(s, i, h);
          out.insert(out.end(), head.begin(), head.end());
        }
      }
    }
    return out;
  }

  std::vector<int64_t> Starts() const { return std::vector<int64_t>(contexts_.size(), 0); }
  const std::vector<int64_t>& contexts() const { return contexts_; }

 private:
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }
  int64_t PagesOf(int64_t context) const {
    return (context + shape_.page_size - 1) / shape_.page_size;
  }
  int64_t Offset(size_t seq, int64_t position, int64_t kv_head) const {
    const int64_t page = page_table_[seq * stride_ + position / shape_.page_size];
    return page * layer_.page_stride + kv_head * layer_.head_stride +
           position % shape_.page_size * shape_.head_dim;
  }
  void Fill(size_t seq, int64_t position, std::mt19937& rng) {
    for (int64_t h = 0; h < shape_.num_kv_heads; ++h) {
      for (std::byte* base : {layer_.k, layer_.v}) {
        const std::vector<float> values = RandomFloats(shape_.head_dim, rng);
        for (int64_t i = 0; i < shape_.head_dim; ++i) {
          const int64_t at = Offset(seq, position, h) + i;
          const uint16_t bf16 = FloatToBf16(values[i]);
          if (shape_.kv_dtype == DType::kF32) {
            std::memcpy(base + at * 4, &values[i], 4);
          } else {
            std::memcpy(base + at * 2, &bf16, 2);
          }
        }
      }
    }
  }
  std::vector<float> LoadHead(const std::byte* base, size_t seq, int64_t position,
                              int64_t kv_head) const {
    std::vector<float> head(shape_.head_dim);
    Dequantize(shape_.kv_dtype,
               base + Offset(seq, position, kv_head) * TraitsOf(shape_.kv_dtype).block_bytes,
               shape_.head_dim, head.data());
    return head;
  }
  std::vector<float> ExpectedHead(size_t seq, int64_t token, int64_t head) const {
    const int64_t kv_head = head / (shape_.num_heads / shape_.num_kv_heads);
    const float* q = q_[seq].data() + (token * shape_.num_heads + head) * shape_.head_dim;
    std::vector<double> scores;
    for (int64_t position = 0; position <= token; ++position) {
      const auto k = LoadHead(layer_.k, seq, position, kv_head);
      scores.push_back(std::inner_product(k.begin(), k.end(), q, 0.0) * Scale());
    }
    const double max = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    std::vector<double> out(shape_.head_dim);
    for (int64_t position = 0; position <= token; ++position) {
      const double weight = std::exp(scores[position] - max);
      const auto v = LoadHead(layer_.v, seq, position, kv_head);
      for (int64_t i = 0; i < shape_.head_dim; ++i) out[i] += weight * v[i];
      sum += weight;
    }
    std::vector<float> result(shape_.head_dim);
    for (int64_t i = 0; i < shape_.head_dim; ++i) result[i] = static_cast<float>(out[i] / sum);
    return result;
  }

  const Shape shape_;
  const std::vector<int64_t> contexts_;
  KvLayer layer_;
  std::vector<std::byte> kv_;
  std::vector<uint32_t> page_table_;
  int64_t stride_ = 0;
  std::vector<std::vector<float>> q_;  // a sequence: [context, num_heads, head_dim]
};

class AttentionTest : public testing::TestWithParam<std::tuple<std::string, Shape>> {
 protected:
  const CpuKernels& table() const { return TableOf(std::get<0>(GetParam())); }
  std::mt19937 rng_{5};
};

TEST_P(AttentionTest, MatchesAPlainSoftmax) {
  const AttentionCase c(std::get<1>(GetParam()), {1, 37, 16, 2, 70}, rng_);
  const auto actual = c.Run(table(), c.Starts(), c.contexts(), 1);
  EXPECT_LE(RelativeError(actual, c.Expected()), 5e-6);
}

TEST_P(AttentionTest, ChunksAndThreadsDoNotMatter) {
  const Shape& shape = std::get<1>(GetParam());
  const AttentionCase c(shape, {67, 5, 211}, rng_);
  const int64_t row = shape.num_heads * shape.head_dim;
  const auto whole = c.Run(table(), c.Starts(), c.contexts(), 1);
  for (const int num_threads : {2, 3, 5}) {
    ASSERT_TRUE(SameBits(whole, c.Run(table(), c.Starts(), c.contexts(), num_threads)));
  }
  for (int trial = 0; trial < 4; ++trial) {
    std::vector<int64_t> begin = c.Starts();
    std::vector<float> pieces = Poisoned(whole.size());
    while (begin != c.contexts()) {
      std::vector<int64_t> end = begin;
      for (size_t s = 0; s < end.size(); ++s) {
        const int64_t step = trial == 0 ? 1 : static_cast<int64_t>(rng_() % 30);
        end[s] = std::min(end[s] + step, c.contexts()[s]);
      }
      const auto out = c.Run(table(), begin, end, 1 + trial);
      const float* from = out.data();
      int64_t first = 0;
      for (size_t s = 0; s < end.size(); ++s) {
        const int64_t count = (end[s] - begin[s]) * row;
        std::copy(from, from + count, pieces.begin() + (first + begin[s]) * row);
        from += count;
        first += c.contexts()[s];
      }
      begin = end;
    }
    ASSERT_TRUE(SameBits(whole, pieces)) << "trial " << trial;
  }
}

TEST_P(AttentionTest, TheRestOfTheBatchDoesNotMatter) {
  const Shape& shape = std::get<1>(GetParam());
  const AttentionCase c(shape, {90, 33, 64, 1}, rng_);
  const int64_t row = shape.num_heads * shape.head_dim;
  const auto together = c.Run(table(), c.Starts(), c.contexts(), 2);
  std::vector<float> alone;
  for (size_t s = 0; s < c.contexts().size(); ++s) {
    // A prompt in one piece but for its last token, which is decoded.
    std::vector<int64_t> begin = c.Starts();
    std::vector<int64_t> end = c.Starts();
    end[s] = c.contexts()[s] - 1;
    const auto prompt = c.Run(table(), begin, end, 1);
    begin[s] = end[s]++;
    const auto last = c.Run(table(), begin, end, 1);
    alone.insert(alone.end(), prompt.begin(), prompt.end());
    alone.insert(alone.end(), last.begin(), last.end());
  }
  ASSERT_EQ(alone.size() % row, 0u);
  EXPECT_TRUE(SameBits(together, alone));
}

std::string NameOfShape(const testing::TestParamInfo<std::tuple<std::string, Shape>>& info) {
  const auto& [table, s] = info.param;
  std::ostringstream name;
  name << table << "_" << s.num_heads << "_" << s.num_kv_heads << "_" << s.head_dim << "_page"
       << s.page_size << "_" << NameOf(s.kv_dtype);
  return name.str();
}

INSTANTIATE_TEST_SUITE_P(Tables, AttentionTest,
                         testing::Combine(testing::ValuesIn(AllTables()),
                                          testing::Values(Shape{9, 3, 64, 16, DType::kBF16},
                                                          Shape{4, 2, 128, 16, DType::kBF16},
                                                          Shape{2, 2, 80, 16, DType::kBF16},
                                                          Shape{40, 1, 32, 16, DType::kBF16},
                                                          Shape{3, 1, 22, 8, DType::kBF16},
                                                          Shape{4, 1, 64, 32, DType::kF32},
                                                          Shape{2, 1, 256, 16, DType::kF32})),
                         NameOfShape);

}  // namespace
}  // namespace mili::kernels

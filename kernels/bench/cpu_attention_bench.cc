// Attention over cold pages: of prompts, and of decoding with the preparation of q, k and v, in the
// same pass and in one before it. 16 query and 8 KV heads of 128, as in Qwen3-0.6B.
#include <numeric>
#include <vector>

#include "kernels/bench/cpu_bench.h"

namespace mili::kernels {
namespace {

constexpr int64_t kHeads = 16, kKvHeads = 8, kDim = 128, kPage = 16;
constexpr int64_t kPageStride = 2 * kKvHeads * kPage * kDim;

int64_t PagesOf(int64_t context) { return (context + kPage - 1) / kPage; }

// Sequences of one length, each with as many new tokens.
class Step {
 public:
  Step(const Setup& setup, int64_t num_seqs, int64_t num_new, int64_t context)
      : element_(TraitsOf(setup.table.kv_dtype).block_bytes),
        q_(num_seqs * num_new * kHeads * kDim, 0.1f),
        out_(q_.size()),
        cu_seqlens_(num_seqs + 1),
        contexts_(num_seqs, context),
        pages_(num_seqs * PagesOf(context)) {
    std::iota(pages_.begin(), pages_.end(), 0u);
    for (int64_t i = 0; i <= num_seqs; ++i) cu_seqlens_[i] = i * num_new;
    params_.q = q_.data();
    params_.q_stride = kHeads * kDim;
    params_.out = out_.data();
    params_.cu_seqlens = cu_seqlens_.data();
    params_.context_lens = contexts_.data();
    params_.page_table = pages_.data();
    params_.page_table_stride = PagesOf(context);
    params_.num_seqs = num_seqs;
    params_.num_heads = kHeads;
    params_.num_kv_heads = kKvHeads;
    params_.head_dim = kDim;
    params_.scale = 0.088f;
    params_.kv = {setup.table.kv_dtype, nullptr, nullptr, kPageStride, kPage * kDim, kPage};
    const int64_t seen = num_new * (context - num_new) + num_new * (num_new + 1) / 2;
    macs_ = num_seqs * seen * kHeads * 2 * kDim;
    bytes_ = pages_.size() * kPageStride * element_;
  }
  size_t bytes() const { return bytes_; }
  int64_t macs() const { return macs_; }
  float* q() { return q_.data(); }
  // The pages are the stretch, in which new tokens are written too.
  PagedAttentionParams& At(const std::byte* stretch) {
    params_.kv.k = const_cast<std::byte*>(stretch);
    params_.kv.v = params_.kv.k + kKvHeads * kPage * kDim * element_;
    return params_;
  }

 private:
  const size_t element_;
  std::vector<float> q_, out_;
  std::vector<int64_t> cu_seqlens_;
  const std::vector<int64_t> contexts_;
  std::vector<uint32_t> pages_;
  PagedAttentionParams params_;
  int64_t macs_ = 0;
  size_t bytes_ = 0;
};

void BenchAttention(benchmark::State& state, Setup& setup, int64_t num_new, int64_t context) {
  Step step(setup, 1, num_new, context);
  Stretches stretches(setup, step.bytes());
  MeasureCold(state, stretches, [&](const std::byte* stretch) {
    setup.table.paged_attention(step.At(stretch), setup.pool);
  });
  ReportMacs(state, step.macs(), Arithmetic::kFp32, setup);
}

// Sequences that decode a token each.
void BenchDecode(benchmark::State& state, Setup& setup, int64_t num_seqs, int64_t context,
                 bool is_one_pass) {
  Step step(setup, num_seqs, 1, context);
  Stretches stretches(setup, step.bytes());
  std::vector<float> k(num_seqs * kKvHeads * kDim, 0.1f), v(k.size(), 0.1f);
  const std::vector<float> norm(kDim, 1), angles(context * kDim / 2, 0.7f);
  const std::vector<uint32_t> positions(num_seqs, static_cast<uint32_t>(context - 1));
  std::vector<int64_t> slots(num_seqs);
  for (int64_t i = 0; i < num_seqs; ++i) slots[i] = i * PagesOf(context) * kPage + context - 1;
  QkvPrepareParams prepare = {.q = step.q(),
                              .k = k.data(),
                              .v = v.data(),
                              .q_stride = kHeads * kDim,
                              .kv_stride = kKvHeads * kDim,
                              .q_norm = norm.data(),
                              .k_norm = norm.data(),
                              .rope_cos = angles.data(),
                              .rope_sin = angles.data(),
                              .positions = positions.data(),
                              .slot_map = slots.data(),
                              .num_tokens = num_seqs,
                              .num_heads = kHeads,
                              .num_kv_heads = kKvHeads,
                              .head_dim = kDim};
  MeasureCold(state, stretches, [&](const std::byte* stretch) {
    PagedAttentionParams& params = step.At(stretch);
    prepare.kv = params.kv;
    params.prepare = is_one_pass ? &prepare : nullptr;
    if (!is_one_pass) setup.table.qkv_prepare(prepare, setup.pool);
    setup.table.paged_attention(params, setup.pool);
  });
  ReportMacs(state, step.macs(), Arithmetic::kFp32, setup);
}

}  // namespace

void RegisterAttention(Setup& setup) {
  const std::pair<int64_t, int64_t> spans[] = {{1, 1024},   {1, 8192},    {512, 512},
                                               {512, 2048}, {2048, 2048}, {512, 8192}};
  for (const auto& [num_new, context] : spans) {
    Add("attention/new:" + std::to_string(num_new) + "/context:" + std::to_string(context),
        [&setup, n = num_new, c = context](auto& s) { BenchAttention(s, setup, n, c); });
  }
  for (const auto& [num_seqs, context] :
       {std::pair<int64_t, int64_t>{1, 128}, {1, 1024}, {8, 128}, {8, 1024}}) {
    for (const bool is_one_pass : {true, false}) {
      Add("prepare_attention/seqs:" + std::to_string(num_seqs) +
              "/context:" + std::to_string(context) + (is_one_pass ? "/one_pass" : "/apart"),
          [&setup, n = num_seqs, c = context, is_one_pass](auto& s) {
            BenchDecode(s, setup, n, c, is_one_pass);
          });
    }
  }
}

}  // namespace mili::kernels

#include "kernels/reference/attention.h"

#include <cmath>
#include <limits>

#include "kernels/reference/dequant.h"
#include "kernels/reference/lanes.h"
#include "kernels/reference/qkv_prepare.h"
#include "kernels/reference/share.h"

namespace mili::kernels::reference {
namespace {

// A softmax-weighted sum that takes one position at a time (online softmax).
struct RunningSoftmax {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
  float weighted[kMaxHeadDim] = {};

  void Add(float score, const float* v, int64_t head_dim) {
    if (!(score <= max)) {  // also on NaN, which then spreads
      const float shrink = std::exp(max - score);
      sum *= shrink;
      for (int64_t i = 0; i < head_dim; ++i) weighted[i] *= shrink;
      max = score;
    }
    const float weight = std::exp(score - max);
    sum += weight;
    for (int64_t i = 0; i < head_dim; ++i) weighted[i] += weight * v[i];
  }
};

// One head of one token, over positions [0, length).
void OneHead(const PagedAttentionParams& p, int64_t seq, int64_t token, int64_t head,
             int64_t length) {
  const int64_t kv_head = head / (p.num_heads / p.num_kv_heads);
  const int64_t element_bytes = TraitsOf(p.kv.dtype).block_bytes;
  const float* q = p.q + token * p.q_stride + head * p.head_dim;
  const uint32_t* pages = p.page_table + seq * p.page_table_stride;
  RunningSoftmax softmax;
  float k[kMaxHeadDim], v[kMaxHeadDim];
  for (int64_t position = 0; position < length; ++position) {
    const int64_t page = pages[position / p.kv.page_size_tokens];
    const int64_t in_page = position % p.kv.page_size_tokens;
    const int64_t offset =
        (page * p.kv.page_stride + kv_head * p.kv.head_stride + in_page * p.head_dim) *
        element_bytes;
    Dequantize(p.kv.dtype, p.kv.k + offset, p.head_dim, k);
    Dequantize(p.kv.dtype, p.kv.v + offset, p.head_dim, v);
    softmax.Add(Dot(q, k, p.head_dim) * p.scale, v, p.head_dim);
  }
  float* out = p.out + (token * p.num_heads + head) * p.head_dim;
  for (int64_t i = 0; i < p.head_dim; ++i) out[i] = softmax.weighted[i] / softmax.sum;
}

}  // namespace

void PagedAttention(const PagedAttentionParams& p, ParallelFor& pool) {
  if (p.prepare != nullptr) QkvPrepare(*p.prepare, pool);
  for (int64_t seq = 0; seq < p.num_seqs; ++seq) {
    const int64_t first = p.cu_seqlens[seq];
    const int64_t num_new = p.cu_seqlens[seq + 1] - first;
    const int64_t num_before = p.context_lens[seq] - num_new;
    const int64_t num_items = num_new * p.num_heads;
    const int64_t elements = p.context_lens[seq] * p.head_dim;
    ForEachShare(pool, num_items, elements, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t token = i / p.num_heads;
        OneHead(p, seq, first + token, i % p.num_heads, num_before + token + 1);
      }
    });
  }
}

}  // namespace mili::kernels::reference

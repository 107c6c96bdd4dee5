// Paged causal attention with an online softmax. A row (one head of one token) takes its positions
// in order, in blocks of kLanes that do not cross a page, so its result does not depend on what
// else is computed beside it. Rows that read the same KV head share the conversion of its pages to
// fp32.
#pragma once

#include "kernels/cpu/attention_split_inl.h"

namespace mili::kernels {
namespace {

constexpr int kMaxRows = 32;  // that share a converted block

template <typename Isa>
struct KvBlock {
  float k[Isa::kLanes * kMaxHeadDim];  // [kLanes, head_dim]
  float v[Isa::kLanes * kMaxHeadDim];
};

template <typename Isa>
struct AttentionRow {
  const float* q;
  float* out;
  int64_t length;  // positions [0, length)
  float max;
  float sum;
  float weighted[kMaxHeadDim];
};

// `count` positions from `offset` on; the lanes beyond are zero.
template <typename Isa>
void LoadKv(const KvLayer& kv, const std::byte* base, int64_t offset, int64_t count,
            int64_t head_dim, float* out) {
  const int64_t n = count * head_dim;
  if (kv.dtype == DType::kF32) {
    __builtin_memcpy(out, base + offset * 4, n * sizeof(float));
  } else {
    const std::byte* in = base + offset * 2;
    int64_t i = 0;
    for (; i + Isa::kLanes <= n; i += Isa::kLanes) StoreAs(out + i, Isa::LoadBf16(in + i * 2));
    for (; i < n; ++i) {
      const uint32_t bits = static_cast<uint32_t>(LoadAs<uint16_t>(in + i * 2)) << 16;
      __builtin_memcpy(out + i, &bits, sizeof(bits));
    }
  }
  if (count < Isa::kLanes) {
    __builtin_memset(out + n, 0, (Isa::kLanes - count) * head_dim * sizeof(float));
  }
}

// Lane i = q . k of position i.
template <typename Isa>
MILI_INLINE typename Isa::F Scores(const float* q, const float* k, int64_t head_dim) {
  typename Isa::F sums[Isa::kLanes] = {};
  int64_t d = 0;
  for (; d + Isa::kLanes <= head_dim; d += Isa::kLanes) {
    const auto part = LoadF<Isa>(q + d);
#pragma GCC unroll 16
    for (int i = 0; i < Isa::kLanes; ++i) {
      sums[i] = Isa::Fma(part, LoadF<Isa>(k + i * head_dim + d), sums[i]);
    }
  }
  if (d < head_dim) {
    const auto part = LoadFirst<Isa>(q + d, head_dim - d);
    for (int i = 0; i < Isa::kLanes; ++i) {
      sums[i] = Isa::Fma(part, LoadFirst<Isa>(k + i * head_dim + d, head_dim - d), sums[i]);
    }
  }
  return Isa::ReduceRows(sums);
}

// weighted = weighted * shrink + sum over i < count of weights[i] * v[i].
template <typename Isa>
MILI_INLINE void AddWeighted(const float* weights, int64_t count, float shrink, const float* v,
                             int64_t head_dim, float* weighted) {
  constexpr int kParts = 4;  // vectors of head_dim at a time
  int64_t d = 0;
  for (; d + kParts * Isa::kLanes <= head_dim; d += kParts * Isa::kLanes) {
    typename Isa::F sums[kParts];
#pragma GCC unroll 4
    for (int j = 0; j < kParts; ++j) sums[j] = LoadF<Isa>(weighted + d + j * Isa::kLanes) * shrink;
    for (int64_t i = 0; i < count; ++i) {
      const auto weight = Broadcast<Isa>(weights[i]);
#pragma GCC unroll 4
      for (int j = 0; j < kParts; ++j) {
        sums[j] = Isa::Fma(weight, LoadF<Isa>(v + i * head_dim + d + j * Isa::kLanes), sums[j]);
      }
    }
#pragma GCC unroll 4
    for (int j = 0; j < kParts; ++j) StoreAs(weighted + d + j * Isa::kLanes, sums[j]);
  }
  for (; d < head_dim; d += Isa::kLanes) {
    const int64_t n = MinOf(Isa::kLanes, head_dim - d);
    typename Isa::F sum = LoadFirst<Isa>(weighted + d, n) * shrink;
    for (int64_t i = 0; i < count; ++i) {
      sum = Isa::Fma(Broadcast<Isa>(weights[i]), LoadFirst<Isa>(v + i * head_dim + d, n), sum);
    }
    StoreFirst<Isa>(weighted + d, sum, n);
  }
}

// Takes positions [first, first + count) into the row's softmax; count <= kLanes.
template <typename Isa>
MILI_INLINE void TakeBlock(const KvBlock<Isa>& block, int64_t count, float scale, int64_t head_dim,
                           AttentionRow<Isa>* row) {
  float scores[Isa::kLanes];
  StoreAs(scores, Scores<Isa>(row->q, block.k, head_dim) * scale);
  for (int64_t i = count; i < Isa::kLanes; ++i) scores[i] = -kInfinity;
  const auto s = LoadF<Isa>(scores);
  const float block_max = Isa::ReduceMax(s);
  const float max = block_max > row->max ? block_max : row->max;
  const auto weights = Exp<Isa>(s - max);
  float shrink[Isa::kLanes];
  StoreAs(shrink, Exp<Isa>(Broadcast<Isa>(row->max - max)));
  row->sum = row->sum * shrink[0] + Isa::ReduceAdd(weights);
  row->max = max;
  StoreAs(scores, weights);
  AddWeighted<Isa>(scores, count, shrink[0], block.v, head_dim, row->weighted);
}

// Rows [begin, end) of a (sequence, KV head), end - begin <= kMaxRows: all heads of the group of
// the first token, then of the next.
template <typename Isa>
void AttendRows(const PagedAttentionParams& p, const KvHeadOfSeq& item, int64_t begin,
                int64_t end) {
  const int64_t group = p.num_heads / p.num_kv_heads;
  AttentionRow<Isa> rows[kMaxRows];
  int64_t longest = 0;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t token = item.first_token + i / group;
    const int64_t head = item.kv_head * group + i % group;
    AttentionRow<Isa>& row = rows[i - begin];
    row.q = p.q + token * p.q_stride + head * p.head_dim;
    row.out = p.out + (token * p.num_heads + head) * p.head_dim;
    row.length = item.num_before + i / group + 1;
    row.max = -kInfinity;
    row.sum = 0;
    __builtin_memset(row.weighted, 0, p.head_dim * sizeof(float));
    longest = row.length;
  }
  const uint32_t* pages = p.page_table + item.seq * p.page_table_stride;
  KvBlock<Isa> block;
  int64_t first = 0;
  while (first < longest) {
    const int64_t in_page = first % p.kv.page_size_tokens;
    const int64_t count =
        MinOf(MinOf(Isa::kLanes, p.kv.page_size_tokens - in_page), longest - first);
    const int64_t offset = pages[first / p.kv.page_size_tokens] * p.kv.page_stride +
                           item.kv_head * p.kv.head_stride + in_page * p.head_dim;
    LoadKv<Isa>(p.kv, p.kv.k, offset, count, p.head_dim, block.k);
    LoadKv<Isa>(p.kv, p.kv.v, offset, count, p.head_dim, block.v);
    for (int64_t i = 0; i < end - begin; ++i) {
      const int64_t visible = MinOf(rows[i].length - first, count);
      if (visible > 0) TakeBlock<Isa>(block, visible, p.scale, p.head_dim, &rows[i]);
    }
    first += count;
  }
  for (int64_t i = 0; i < end - begin; ++i) {
    const float inverse = 1.0f / rows[i].sum;
    for (int64_t d = 0; d < p.head_dim; ++d) rows[i].out[d] = rows[i].weighted[d] * inverse;
  }
}

template <typename Isa>
void PagedAttention(const PagedAttentionParams& p, ParallelFor& pool) {
  const int64_t total = TotalWork(p);
  const auto work = [&](int64_t begin, int64_t end) {
    ForEachRowRange(p, begin, end, [&](const KvHeadOfSeq& item, int64_t first, int64_t last) {
      for (int64_t i = first; i < last; i += kMaxRows) {
        AttendRows<Isa>(p, item, i, MinOf(i + kMaxRows, last));
      }
    });
  };
  // A position costs two passes over head_dim.
  if (total * 2 * p.head_dim < kMinParallelElements) return work(0, total);
  // One cut a thread: rows that share a KV head are cheaper together.
  ForPieces(pool, total, (total + pool.num_threads() - 1) / pool.num_threads(),
            [&](int64_t begin, int64_t end, int) { work(begin, end); });
}

}  // namespace
}  // namespace mili::kernels

// Paged causal attention with an online softmax. A row (one head of one token) takes its positions
// in order, in blocks that begin at multiples of kBlockPositions: its scores are sums over head_dim
// in order, its weights meet V in the order of the positions. So its result does not depend on
// what else is computed beside it. Rows that read the same KV head share its blocks.
#pragma once

#include "kernels/cpu/attention_rows_inl.h"
#include "kernels/cpu/kv_stream_inl.h"
#include "kernels/cpu/row_ops_inl.h"

namespace mili::kernels {
namespace {

// c[r][j] = (c[r][j] * shrink[r], or 0 if shrink is null) + sum over i < count, in order, of
// a[r][i] * b[i][j], for kRows rows and kVectors vectors of columns.
template <typename Isa, int kRows, int kVectors>
MILI_INLINE void MultiplyTile(const float* a, int64_t a_stride, const float* b, int64_t b_stride,
                              int64_t count, const float* shrink, float* c, int64_t c_stride) {
  using F = typename Isa::F;
  F sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      sums[r][j] =
          shrink == nullptr ? F{} : LoadF<Isa>(c + r * c_stride + j * Isa::kLanes) * shrink[r];
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    F column[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) column[j] = LoadF<Isa>(b + i * b_stride + j * Isa::kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F factor = Broadcast<Isa>(a[r * a_stride + i]);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sums[r][j] = Isa::Fma(factor, column[j], sums[r][j]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      StoreAs(c + r * c_stride + j * Isa::kLanes, sums[r][j]);
    }
  }
}

template <typename Isa, int kRows>
void MultiplyRows(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t count,
                  const float* shrink, int64_t columns, float* c, int64_t c_stride) {
  int64_t j = 0;
  for (; j + 2 * Isa::kLanes <= columns; j += 2 * Isa::kLanes) {
    MultiplyTile<Isa, kRows, 2>(a, a_stride, b + j, b_stride, count, shrink, c + j, c_stride);
  }
  for (; j < columns; j += Isa::kLanes) {
    MultiplyTile<Isa, kRows, 1>(a, a_stride, b + j, b_stride, count, shrink, c + j, c_stride);
  }
}

// The same for any number of rows; `columns` is rounded up to whole vectors, so rows of b and c are
// followed by what may be read and written.
template <typename Isa>
void Multiply(int64_t rows, const float* a, int64_t a_stride, const float* b, int64_t b_stride,
              int64_t count, const float* shrink, int64_t columns, float* c, int64_t c_stride) {
  constexpr int kMost = Isa::kLanes == 16 ? 8 : 4;  // rows x 2 sums that fit the registers
  const auto run = [&](auto multiply, int64_t r) {
    multiply(a + r * a_stride, a_stride, b, b_stride, count,
             shrink == nullptr ? shrink : shrink + r, columns, c + r * c_stride, c_stride);
  };
  int64_t r = 0;
  for (; r + kMost <= rows; r += kMost) run(MultiplyRows<Isa, kMost>, r);
  for (; r + 3 <= rows; r += 3) run(MultiplyRows<Isa, 3>, r);
  if (rows - r == 2) run(MultiplyRows<Isa, 2>, r);
  if (rows - r == 1) run(MultiplyRows<Isa, 1>, r);
}

// Takes a block of `count` positions from `first` on into every row.
template <typename Isa>
void TakeBlock(const KvBlock& block, int64_t first, int64_t count, int64_t head_dim, float scale,
               RowTile* tile) {
  int64_t r = 0;
  while (r < tile->num_rows && tile->length[r] <= first) ++r;  // rows that end before the block
  Multiply<Isa>(tile->num_rows - r, tile->q + r * tile->stride, tile->stride, block.k,
                kBlockPositions, head_dim, nullptr, kBlockPositions,
                tile->scores + r * kBlockPositions, kBlockPositions);
  while (r < tile->num_rows) {  // rows that see equally much
    const int64_t visible = MinOf(tile->length[r] - first, count);
    const int64_t begin = r;
    for (; r < tile->num_rows && MinOf(tile->length[r] - first, count) == visible; ++r) {
      Soften<Isa>(tile, r, visible, scale);
    }
    Multiply<Isa>(r - begin, tile->scores + begin * kBlockPositions, kBlockPositions, block.v,
                  head_dim, visible, tile->shrink + begin, head_dim,
                  tile->weighted + begin * tile->stride, tile->stride);
  }
}

// Rows [begin, end) of a (sequence, KV head), at most kMaxRows: all heads of the group of the first
// token, then of the next.
template <typename Isa>
void AttendRows(const PagedAttentionParams& p, const KvHeadOfSeq& item, int64_t begin,
                int64_t end) {
  RowTile tile;
  KvBlock block;
  StartRows<Isa>(p, item, begin, end, &tile);
  const uint32_t* pages = p.page_table + item.seq * p.page_table_stride;
  const int64_t longest = tile.length[tile.num_rows - 1];
  // Many rows compute for longer than a block takes to come.
  const int64_t ahead_end = tile.num_rows <= 16 ? longest : 0;
  for (int64_t first = 0; first < longest; first += kBlockPositions) {
    const int64_t count = MinOf(kBlockPositions, longest - first);
    LoadBlock<Isa>(p.kv, pages, item.kv_head, first, count, ahead_end, p.head_dim, &block);
    TakeBlock<Isa>(block, first, count, p.head_dim, p.scale, &tile);
  }
  FinishRows(p, item, begin, tile);
}

// The kRows rows of a (sequence, KV head) with one new token, prepared first if `prepare` is not
// null.
template <typename Isa, int kRows>
void AttendToken(const PagedAttentionParams& p, const KvHeadOfSeq& item,
                 const QkvPrepareParams* prepare) {
  const KvRuns runs(p.kv, p.page_table + item.seq * p.page_table_stride, item.kv_head, p.head_dim);
  const int64_t length = item.num_before + 1;
  runs.Call<Isa>(0, MinOf(kBlockPositions, length));
  if (prepare != nullptr) PrepareHead<Isa>(*prepare, item.first_token, item.kv_head);
  RowTile tile;
  StartRows<Isa>(p, item, 0, kRows, &tile);
  for (int64_t first = 0; first < length; first += kBlockPositions) {
    const int64_t count = MinOf(kBlockPositions, length - first);
    runs.Call<Isa>(first + count, MinOf(kBlockPositions, length - first - count));
    for (int64_t i = 0; i < count; i += Isa::kLanes) {
      ScoreRun<Isa, kRows>(runs.K(first + i), p.head_dim, tile.q, tile.stride, tile.scores + i);
    }
    for (int r = 0; r < kRows; ++r) Soften<Isa>(&tile, r, count, p.scale);
    WeighRuns<Isa, kRows>(runs, first, count, p.head_dim, tile.scores, tile.shrink, tile.stride,
                          tile.weighted);
  }
  FinishRows(p, item, 0, tile);
}

using AttendTokenFunction = void (*)(const PagedAttentionParams&, const KvHeadOfSeq&,
                                     const QkvPrepareParams*);

// For the rows of one token, if they are few enough to gain; else null.
template <typename Isa>
AttendTokenFunction AttendTokenOf(const PagedAttentionParams& p) {
  if (!HasRuns<Isa>(p.kv, p.head_dim)) return nullptr;
  switch (p.num_heads / p.num_kv_heads) {
    case 1:
      return AttendToken<Isa, 1>;
    case 2:
      return AttendToken<Isa, 2>;
    case 3:
      return AttendToken<Isa, 3>;
    case 4:
      return AttendToken<Isa, 4>;
    default:
      return nullptr;
  }
}

template <typename Isa>
void PagedAttention(const PagedAttentionParams& p, ParallelFor& pool) {
  const AttendTokenFunction attend_token = AttendTokenOf<Isa>(p);
  const int64_t group = p.num_heads / p.num_kv_heads;
  const bool prepares_heads =
      p.prepare != nullptr && attend_token != nullptr && HasOneNewTokenEach(p);
  if (p.prepare != nullptr && !prepares_heads) QkvPrepare<Isa>(*p.prepare, pool);
  const QkvPrepareParams prepare = prepares_heads ? *p.prepare : QkvPrepareParams{};
  const auto work = [p, prepare, attend_token, group, prepares_heads](int64_t begin, int64_t end) {
    ForEachTile(p, RowTile::kMaxRows, begin, end,
                [&](const KvHeadOfSeq& item, int64_t first, int64_t last) {
                  if (attend_token != nullptr && item.num_rows == group) {
                    attend_token(p, item, prepares_heads ? &prepare : nullptr);
                  } else {
                    AttendRows<Isa>(p, item, first, last);
                  }
                });
  };
  const bool is_worth_threads = TotalWork(p) * 2 * p.head_dim >= kMinParallelMacs ||
                                (prepares_heads && IsWorthThreads(*p.prepare));
  Split(pool, NumTiles(p, RowTile::kMaxRows), is_worth_threads, work);
}

}  // namespace
}  // namespace mili::kernels

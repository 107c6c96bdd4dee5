// Paged causal attention with an online softmax. A row (one head of one token) takes its positions
// in order, in blocks that begin at multiples of kBlockPositions: its scores are sums over head_dim
// in order, its weights meet V in the order of the positions. So its result does not depend on
// what else is computed beside it. Rows that read the same KV head share its blocks.
#pragma once

#include "kernels/cpu/attention_split_inl.h"
#include "kernels/cpu/kv_block_inl.h"

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

// Rows of one KV head that go through its blocks together.
struct RowTile {
  static constexpr int kMaxRows = 64;
  // A row of fp32 may end in a vector that reaches beyond head_dim.
  static constexpr int64_t kRowFloats = kMaxHeadDim + 16;

  int64_t num_rows;
  int64_t stride;            // of q and weighted, whole vectors
  int64_t length[kMaxRows];  // positions [0, length) are seen
  float max[kMaxRows];
  float sum[kMaxRows];
  float shrink[kMaxRows];  // of what was summed before this block
  alignas(64) float q[kMaxRows * kRowFloats];
  alignas(64) float weighted[kMaxRows * kRowFloats];
  alignas(64) float scores[kMaxRows * kBlockPositions];  // then weights
};

// Scores of row r become weights; of them `visible` count.
template <typename Isa>
MILI_INLINE void Soften(RowTile* tile, int64_t r, int64_t visible, float scale) {
  using F = typename Isa::F;
  constexpr int kVectors = kBlockPositions / Isa::kLanes;
  float* scores = tile->scores + r * kBlockPositions;
  for (int64_t i = visible; i < kBlockPositions; ++i) scores[i] = -kInfinity;
  F s[kVectors];
  F most = Broadcast<Isa>(-kInfinity);
  for (int j = 0; j < kVectors; ++j) {
    s[j] = LoadF<Isa>(scores + j * Isa::kLanes) * scale;
    most = s[j] > most ? s[j] : most;
  }
  const float block_max = Isa::ReduceMax(most);
  const float max = block_max > tile->max[r] ? block_max : tile->max[r];
  F sum = {};
  for (int j = 0; j < kVectors; ++j) {
    const F weights = Exp<Isa>(s[j] - max);
    StoreAs(scores + j * Isa::kLanes, weights);
    sum += weights;
  }
  float shrink = 1;
  if (max != tile->max[r]) {
    float lanes[Isa::kLanes];
    StoreAs(lanes, Exp<Isa>(Broadcast<Isa>(tile->max[r] - max)));
    shrink = lanes[0];
  }
  tile->max[r] = max;
  tile->shrink[r] = shrink;
  tile->sum[r] = tile->sum[r] * shrink + Isa::ReduceAdd(sum);
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

template <typename Isa>
void StartRows(const PagedAttentionParams& p, const KvHeadOfSeq& item, int64_t begin, int64_t end,
               RowTile* tile) {
  const int64_t group = p.num_heads / p.num_kv_heads;
  tile->num_rows = end - begin;
  tile->stride = (p.head_dim + Isa::kLanes - 1) / Isa::kLanes * Isa::kLanes;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t r = i - begin;
    const int64_t head = item.kv_head * group + i % group;
    __builtin_memcpy(tile->q + r * tile->stride,
                     p.q + (item.first_token + i / group) * p.q_stride + head * p.head_dim,
                     p.head_dim * sizeof(float));
    __builtin_memset(tile->weighted + r * tile->stride, 0, tile->stride * sizeof(float));
    tile->length[r] = item.num_before + i / group + 1;
    tile->max[r] = -kInfinity;
    tile->sum[r] = 0;
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
  const int64_t group = p.num_heads / p.num_kv_heads;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t r = i - begin;
    float* out =
        p.out + ((item.first_token + i / group) * p.num_heads + item.kv_head * group + i % group) *
                    p.head_dim;
    const float inverse = 1.0f / tile.sum[r];
    for (int64_t d = 0; d < p.head_dim; ++d) out[d] = tile.weighted[r * tile.stride + d] * inverse;
  }
}

template <typename Isa>
void PagedAttention(const PagedAttentionParams& p, ParallelFor& pool) {
  const int64_t num_tiles = NumTiles(p, RowTile::kMaxRows);
  const auto work = [&](int64_t begin, int64_t end) {
    ForEachTile(p, RowTile::kMaxRows, begin, end,
                [&](const KvHeadOfSeq& item, int64_t first, int64_t last) {
                  AttendRows<Isa>(p, item, first, last);
                });
  };
  Split(pool, num_tiles, TotalWork(p) * 2 * p.head_dim >= kMinParallelMacs, work);
}

}  // namespace
}  // namespace mili::kernels

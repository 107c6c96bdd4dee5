// Rows of attention (one head of one token each) on their way through the blocks of a KV head: what
// they start from, the online softmax, what comes out.
#pragma once

#include "kernels/cpu/attention_split_inl.h"
#include "kernels/cpu/kv_block_inl.h"

namespace mili::kernels {
namespace {

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

// out = what the rows have summed.
MILI_INLINE void FinishRows(const PagedAttentionParams& p, const KvHeadOfSeq& item, int64_t begin,
                            const RowTile& tile) {
  const int64_t group = p.num_heads / p.num_kv_heads;
  for (int64_t r = 0; r < tile.num_rows; ++r) {
    const int64_t i = begin + r;
    float* out =
        p.out + ((item.first_token + i / group) * p.num_heads + item.kv_head * group + i % group) *
                    p.head_dim;
    const float inverse = 1.0f / tile.sum[r];
    for (int64_t d = 0; d < p.head_dim; ++d) out[d] = tile.weighted[r * tile.stride + d] * inverse;
  }
}

}  // namespace
}  // namespace mili::kernels

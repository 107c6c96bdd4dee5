// A few rows meet K and V of a KV head as these come from memory, in bf16: nothing is widened to be
// read again. Every sum takes its terms in the order in which the products over a KvBlock take
// them.
#pragma once

#include "kernels/cpu/kv_block_inl.h"

namespace mili::kernels {
namespace {

// Where the positions of a sequence's KV head lie; runs of kLanes positions lie in one page.
class KvRuns {
 public:
  MILI_INLINE KvRuns(const KvLayer& kv, const uint32_t* pages, int64_t kv_head, int64_t head_dim)
      : kv_(kv), pages_(pages), head_offset_(kv_head * kv.head_stride), head_dim_(head_dim) {}

  MILI_INLINE const std::byte* K(int64_t position) const { return kv_.k + 2 * OffsetOf(position); }
  MILI_INLINE const std::byte* V(int64_t position) const { return kv_.v + 2 * OffsetOf(position); }

  // Calls for positions [first, first + count): their runs are too short for the processor to see
  // them coming.
  template <typename Isa>
  MILI_INLINE void Call(int64_t first, int64_t count) const {
    for (int64_t i = 0; i < count; i += Isa::kLanes) {
      const int64_t bytes = MinOf(Isa::kLanes, count - i) * head_dim_ * 2;
      Prefetch(K(first + i), bytes);
      Prefetch(V(first + i), bytes);
    }
  }

 private:
  MILI_INLINE int64_t OffsetOf(int64_t position) const {
    return pages_[position / kv_.page_size_tokens] * kv_.page_stride + head_offset_ +
           position % kv_.page_size_tokens * head_dim_;
  }

  const KvLayer& kv_;
  const uint32_t* const pages_;
  const int64_t head_offset_;
  const int64_t head_dim_;
};

// Whether a layer's pages and heads are cut so that KvRuns and ScoreRun can take them.
template <typename Isa>
MILI_INLINE bool HasRuns(const KvLayer& kv, int64_t head_dim) {
  return kv.dtype == DType::kBF16 && kv.page_size_tokens % Isa::kLanes == 0 &&
         head_dim % (2 * Isa::kLanes) == 0;
}

// scores[r][0, kLanes) = q[r] . the run of K at `k`, rows of scores kBlockPositions apart.
template <typename Isa, int kRows>
MILI_INLINE void ScoreRun(const std::byte* k, int64_t head_dim, const float* q, int64_t q_stride,
                          float* scores) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  F sums[kRows] = {};
  for (int64_t d = 0; d < head_dim; d += 2 * Isa::kLanes) {
    I words[Isa::kLanes];  // first a position's words of two dimensions, then a word's positions
#pragma GCC unroll 16
    for (int i = 0; i < Isa::kLanes; ++i) words[i] = LoadAs<I>(k + (i * head_dim + d) * 2);
    TransposeFrom<Isa, 1>(words);
#pragma GCC unroll 16
    for (int i = 0; i < Isa::kLanes; ++i) {
      const F even = reinterpret_cast<F>(words[i] << 16);
      const F odd = reinterpret_cast<F>(words[i] & static_cast<int32_t>(0xffff0000));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const float* two = q + r * q_stride + d + 2 * i;
        sums[r] = Isa::Fma(Broadcast<Isa>(two[0]), even, sums[r]);
        sums[r] = Isa::Fma(Broadcast<Isa>(two[1]), odd, sums[r]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) StoreAs(scores + r * kBlockPositions, sums[r]);
}

// weighted[r] = weighted[r] * shrink[r] + sum over positions [first, first + count), in order, of
// weights[r][position - first] * V.
template <typename Isa, int kRows>
MILI_INLINE void WeighRuns(const KvRuns& runs, int64_t first, int64_t count, int64_t head_dim,
                           const float* weights, const float* shrink, int64_t stride,
                           float* weighted) {
  using F = typename Isa::F;
  constexpr int kVectors = 2;  // head_dim is a multiple of as many
  for (int64_t d = 0; d < head_dim; d += kVectors * Isa::kLanes) {
    F sums[kRows][kVectors];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        sums[r][j] = LoadF<Isa>(weighted + r * stride + d + j * Isa::kLanes) * shrink[r];
      }
    }
    for (int64_t i = 0; i < count; i += Isa::kLanes) {
      const std::byte* v = runs.V(first + i) + 2 * d;
      const int64_t end = MinOf(i + Isa::kLanes, count);
      for (int64_t position = i; position < end; ++position, v += 2 * head_dim) {
        F row[kVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) row[j] = Isa::LoadBf16(v + 2 * j * Isa::kLanes);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const F weight = Broadcast<Isa>(weights[r * kBlockPositions + position]);
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) sums[r][j] = Isa::Fma(weight, row[j], sums[r][j]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        StoreAs(weighted + r * stride + d + j * Isa::kLanes, sums[r][j]);
      }
    }
  }
}

}  // namespace
}  // namespace mili::kernels

// A block of a KV head's positions, widened to fp32: V as it lies, K turned so that a vector holds
// one dimension of neighbouring positions. All rows that read the head share it.
#pragma once

#include "kernels/cpu/lanes_inl.h"
#include "kernels/params.h"

namespace mili::kernels {
namespace {

constexpr int64_t kBlockPositions = 32;  // from a multiple of it on

struct KvBlock {
  alignas(64) float k[kMaxHeadDim * kBlockPositions];  // [head_dim, kBlockPositions]
  alignas(64) float v[kBlockPositions * kMaxHeadDim];  // [kBlockPositions, head_dim]
};

// K of kLanes positions, which lie in one page, into columns of the block.
template <typename Isa>
MILI_INLINE void TurnK(DType dtype, const std::byte* in, int64_t head_dim, float* out) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  const int64_t dims = dtype == DType::kBF16 ? 2 * Isa::kLanes : Isa::kLanes;  // of one matrix
  const int64_t bytes = head_dim * (dtype == DType::kBF16 ? 2 : 4);            // a position
  for (int64_t d = 0; d < head_dim; d += dims) {
    I rows[Isa::kLanes];  // first a position's 4-byte words, then a word's positions
#pragma GCC unroll 16
    for (int i = 0; i < Isa::kLanes; ++i) {
      rows[i] = LoadAs<I>(in + i * bytes + d / dims * sizeof(I));
    }
    TransposeFrom<Isa, 1>(rows);
    float* to = out + d * kBlockPositions;
#pragma GCC unroll 16
    for (int i = 0; i < Isa::kLanes; ++i) {
      if (dtype == DType::kBF16) {  // a word is two of them
        StoreAs(to + 2 * i * kBlockPositions, reinterpret_cast<F>(rows[i] << 16));
        StoreAs(to + (2 * i + 1) * kBlockPositions,
                reinterpret_cast<F>(rows[i] & static_cast<int32_t>(0xffff0000)));
      } else {
        StoreAs(to + i * kBlockPositions, rows[i]);
      }
    }
  }
}

MILI_INLINE float KvAt(DType dtype, const std::byte* base, int64_t offset) {
  if (dtype == DType::kF32) return LoadAs<float>(base + offset * 4);
  const uint32_t bits = static_cast<uint32_t>(LoadAs<uint16_t>(base + offset * 2)) << 16;
  return LoadAs<float>(&bits);
}

// V of `count` positions.
template <typename Isa>
MILI_INLINE void WidenV(DType dtype, const std::byte* in, int64_t n, float* out) {
  if (dtype == DType::kF32) {
    __builtin_memcpy(out, in, n * sizeof(float));
    return;
  }
  int64_t i = 0;
  for (; i + Isa::kLanes <= n; i += Isa::kLanes) StoreAs(out + i, Isa::LoadBf16(in + i * 2));
  for (; i < n; ++i) out[i] = KvAt(dtype, in, i);
}

MILI_INLINE void Prefetch(const std::byte* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

// Positions [first, first + count) of a head; `pages` are the sequence's. Columns of K beyond
// them hold anything. Calls for the positions of the next block, if they lie before `ahead_end`:
// their runs are too short for the processor to see them coming.
template <typename Isa>
void LoadBlock(const KvLayer& kv, const uint32_t* pages, int64_t kv_head, int64_t first,
               int64_t count, int64_t ahead_end, int64_t head_dim, KvBlock* block) {
  const int64_t dims = kv.dtype == DType::kBF16 ? 2 * Isa::kLanes : Isa::kLanes;
  const int64_t element = kv.dtype == DType::kBF16 ? 2 : 4;
  const bool is_regular = kv.page_size_tokens % Isa::kLanes == 0 && head_dim % dims == 0;
  const auto offset_of = [&](int64_t position) {
    return pages[position / kv.page_size_tokens] * kv.page_stride + kv_head * kv.head_stride +
           position % kv.page_size_tokens * head_dim;
  };
  for (int64_t done = 0; done < count;) {
    const int64_t in_page = (first + done) % kv.page_size_tokens;
    const int64_t n = MinOf(MinOf(Isa::kLanes, kv.page_size_tokens - in_page), count - done);
    const int64_t offset = offset_of(first + done);
    if (const int64_t next = first + done + kBlockPositions; next < ahead_end) {
      Prefetch(kv.v + offset_of(next) * element, n * head_dim * element);
      Prefetch(kv.k + offset_of(next) * element, n * head_dim * element);
    }
    WidenV<Isa>(kv.dtype, kv.v + offset * element, n * head_dim, block->v + done * head_dim);
    if (is_regular) {  // a page is there whole, so what is beyond `count` can be read
      TurnK<Isa>(kv.dtype, kv.k + offset * element, head_dim, block->k + done);
    } else {
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t d = 0; d < head_dim; ++d) {
          block->k[d * kBlockPositions + done + i] =
              KvAt(kv.dtype, kv.k, offset + i * head_dim + d);
        }
      }
    }
    done += n;
  }
}

}  // namespace
}  // namespace mili::kernels

// Linear: how x is prepared, and the split over threads and token blocks.
#pragma once

#include "kernels/cpu/linear_rows_inl.h"
#include "kernels/cpu/share_inl.h"

namespace mili::kernels {
namespace {

// Tokens whose activations stay in a core's L2 beside the weights. More are done in blocks, each of
// which reads the weights again.
constexpr int64_t kTokenBlockBytes = 512 << 10;

// Columns of a panel that a thread prepares at a time, whole blocks of every kind.
constexpr int64_t kRunColumns = 128;

// Calls prepare(t, first, begin, end, constant<tokens of the panel>) for the columns [begin, end)
// of token t of the panel whose first token is `first`, for all tokens and columns. x is there.
// Threads do not share a panel's columns: each token of those has a place in the same cache lines.
template <typename Isa, int kTokenTile, typename PrepareToken>
void PrepareTokens(const LinearParams& p, ParallelFor& pool, PrepareToken prepare) {
  const int64_t num_panels = (p.num_tokens + kTokenTile - 1) / kTokenTile;
  const bool is_parallel = p.num_tokens * p.in_features >= kMinParallelElements;
  const bool is_cut = is_parallel && num_panels < 4 * pool.num_threads();
  if (is_cut && p.norm != nullptr) AddRmsNorm<Isa>(*p.norm, pool);
  const int64_t width = is_cut ? kRunColumns : p.in_features;
  const int64_t num_runs = (p.in_features + width - 1) / width;
  Split(pool, num_panels * num_runs, is_parallel, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i % num_runs * width;
      const auto in_panel = [&](int64_t first, auto size) {
        for (int t = 0; t < size.kValue; ++t) {
          if (!is_cut && p.norm != nullptr) AddRmsNormToken<Isa>(*p.norm, first + t);
          prepare(t, first, column, MinOf(column + width, p.in_features), size);
        }
      };
      const int64_t first = i / num_runs * kTokenTile;
      OnePanel<kTokenTile>(first, MinOf(p.num_tokens - first, kTokenTile), in_panel);
    }
  });
}

// Brings x into panels, as weights of a kind want it.
template <typename Isa>
void Prepare(const LinearParams& p, WeightKind kind, ParallelFor& pool) {
  const int64_t cols = p.in_features;
  std::byte* const panels = p.workspace;
  const auto x_of = [&](int64_t t) { return p.x + t * cols; };
  if (kind == WeightKind::kQuantized) {
    return PrepareTokens<Isa, Isa::kTokenTile>(
        p, pool, [&](int t, int64_t first, int64_t begin, int64_t end, auto size) {
          QuantizeToken<Isa, size.kValue>(x_of(first + t), begin, end, t,
                                          panels + first * PanelTokenBytes(cols));
        });
  }
  if constexpr (HasTiles<Isa>) {
    if (kind == WeightKind::kTiles) {
      return PrepareTokens<Isa, 1>(
          p, pool, [&](int, int64_t token, int64_t begin, int64_t end, auto) {
            SplitRow<Isa>(x_of(token), begin, end, panels + token * TileTokenBytes(cols));
          });
    }
  } else if constexpr (Isa::kHasWordDot) {
    if (kind == WeightKind::kWords) {
      return PrepareTokens<Isa, Isa::kTokenTile>(
          p, pool, [&](int t, int64_t first, int64_t begin, int64_t end, auto size) {
            WordToken<Isa, size.kValue>(x_of(first + t), begin, end, t,
                                        panels + first * WordTokenBytes(cols));
          });
    }
  }
  if (p.norm != nullptr) AddRmsNorm<Isa>(*p.norm, pool);
}

// The weights from row block `block` on, counted through all parts (through gate alone with
// silu_mul), to the end of their matrix; none where they are not packed.
struct PackedRun {
  const std::byte* data;
  int64_t bytes;
};
template <typename Isa>
MILI_INLINE PackedRun RunFrom(const LinearParams& p, WeightKind kind, int64_t block) {
  for (int i = 0; i < p.num_parts; ++i) {
    const Matrix& weight = p.parts[i].weight;
    const int64_t num_blocks = NumRowBlocks(p.parts[i], Isa::kLanes);
    if (block < num_blocks) {
      const int64_t group_bytes = kind == WeightKind::kQuantized
                                      ? PackedGroupBytes(weight.dtype, weight.cols)
                                  : kind == WeightKind::kWords ? WordGroupBytes(weight.cols)
                                                               : 0;
      const int64_t first = block * Isa::kLanes / kPackedRows;
      const int64_t num_groups = (weight.rows + kPackedRows - 1) / kPackedRows;
      return {weight.data + first * group_bytes, (num_groups - first) * group_bytes};
    }
    block -= num_blocks;
  }
  return {};
}

// The loop over the row blocks of all parts, which are of one kind. It holds what it needs by
// value: see Split.
template <typename Isa>
struct RowBlockLoop {
  // Where little is to be prepared, the caller does it while the others come: these bring their
  // first rows into their caches. Loads, since of many prefetches at once the most are dropped.
  MILI_INLINE bool Arrive(int thread_idx, int64_t begin) const {
    if (!prepares) return true;
    const PackedRun rows = RunFrom<Isa>(p, kind, begin);
    if (thread_idx == 0) {
      for (int64_t i = 0; i < MinOf(rows.bytes, 1024); i += 64) __builtin_prefetch(rows.data + i);
      Prepare<Isa>(p, kind, *pool);
      __atomic_store_n(&is_prepared, 1, __ATOMIC_RELEASE);
      return true;
    }
    const int64_t num_touched = MinOf(rows.bytes, 16384) / 256;
    // Some microseconds are enough, unless the caller has lost its core: the loop is its alone
    // then.
    for (int64_t i = 0; i < 1000; ++i) {
      if (__atomic_load_n(&is_prepared, __ATOMIC_ACQUIRE) != 0) {
        for (int64_t j = 0; j < MinOf(token_bytes, 2048); j += 64) {
          __builtin_prefetch(p.workspace + j);
        }
        return true;
      }
      if (i >= num_touched) {
        Pause();
        continue;
      }
      for (int64_t j = 256 * i; j < 256 * (i + 1); j += 64) {
        (void)*reinterpret_cast<const volatile std::byte*>(rows.data + j);
      }
    }
    return false;
  }
  MILI_INLINE void operator()(int64_t begin, int64_t end, int) const {
    for (int64_t t = 0; t < p.num_tokens; t += token_block) {
      const int64_t last = MinOf(t + token_block, p.num_tokens);
      if (p.silu_mul) {
        SiluBlocks<Isa>(p, begin, end, t, last);
      } else {
        RowBlocks<Isa>(p, begin, end, t, last);
      }
    }
  }

  LinearParams p;
  WeightKind kind;
  bool prepares;  // p.x and its panels, in the loop
  ParallelFor* pool;
  int64_t token_block;
  int64_t token_bytes;
  alignas(64) mutable int is_prepared = 0;  // the others look until it is
};

template <typename Isa>
void LinearOfKind(const LinearParams& p, WeightKind kind, ParallelFor& pool) {
  int64_t num_blocks = NumRowBlocks(p.parts[0], Isa::kLanes);
  for (int i = 1; i < p.num_parts && !p.silu_mul; ++i) {
    num_blocks += NumRowBlocks(p.parts[i], Isa::kLanes);
  }
  const int64_t token_bytes = TokenBytes(kind, p.in_features);
  const int64_t token_block = MaxOf(kTokenBlockBytes / token_bytes / 16 * 16, 32);
  const int64_t macs = num_blocks * Isa::kLanes * p.in_features * p.num_tokens;
  const bool is_parallel = pool.num_threads() > 1 && num_blocks > 1 && macs >= kMinParallelMacs;
  const bool prepares = is_parallel && p.num_tokens * p.in_features < kMinParallelElements;
  if (!prepares) Prepare<Isa>(p, kind, pool);
  const RowBlockLoop<Isa> loop = {p, kind, prepares, &pool, token_block, token_bytes};
  if (!is_parallel) return loop(0, num_blocks, 0);
  ForPieces(pool, num_blocks, 1, loop);
}

template <typename Isa>
void Linear(const LinearParams& p, ParallelFor& pool) {
  LinearParams of_kind = p;
  bool has_mixed_silu = p.silu_mul;
  for (const WeightKind kind :
       {WeightKind::kQuantized, WeightKind::kTiles, WeightKind::kWords, WeightKind::kFloat}) {
    of_kind.num_parts = 0;
    for (int i = 0; i < p.num_parts; ++i) {
      if (KindOf<Isa>(p.parts[i].weight.dtype) != kind) continue;
      of_kind.parts[of_kind.num_parts++] = p.parts[i];
    }
    if (of_kind.num_parts == 0) continue;
    of_kind.silu_mul = p.silu_mul && of_kind.num_parts == 2;
    if (of_kind.silu_mul) has_mixed_silu = false;
    LinearOfKind<Isa>(of_kind, kind, pool);
    of_kind.norm = nullptr;  // x is there now
  }
  if (!has_mixed_silu) return;
  const LinearPart& gate = p.parts[0];
  SiluMul<Isa>({gate.y, p.parts[1].y, p.num_tokens, gate.weight.rows, gate.y}, pool);
}

}  // namespace
}  // namespace mili::kernels

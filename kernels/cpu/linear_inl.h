// Linear: the split over threads and token blocks, and the choice of the code for a weight type.
#pragma once

#include "kernels/cpu/linear_float_inl.h"
#include "kernels/cpu/linear_quant_inl.h"
#include "kernels/cpu/linear_tiles_inl.h"
#include "kernels/cpu/linear_words_inl.h"
#include "kernels/cpu/row_ops_inl.h"
#include "kernels/cpu/share_inl.h"

namespace mili::kernels {
namespace {

// Tokens whose activations stay in a core's L2 beside the weights. More are done in blocks, each of
// which reads the weights again.
constexpr int64_t kTokenBlockBytes = 512 << 10;

// kLanes rows of a part, from `row` on, as many as there are, for tokens [begin, end).
using RowBlockFunction = void (*)(const LinearParams&, const LinearPart&, int64_t, int64_t,
                                  int64_t);

template <typename Isa>
RowBlockFunction RowBlockOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return FloatRows<Isa, DType::kF32>;
    case DType::kF16:
      return FloatRows<Isa, DType::kF16>;
    case DType::kBF16:
      if constexpr (HasTiles<Isa>) {
        return TileRows<Isa>;
      } else if constexpr (Isa::kHasWordDot) {
        return WordRows<Isa, 1>;
      } else {
        return FloatRows<Isa, DType::kBF16>;
      }
    case DType::kQ8_0:
      return QuantRows<Isa, DType::kQ8_0>;
    case DType::kQ4_0:
      return QuantRows<Isa, DType::kQ4_0>;
    case DType::kQ4_1:
      return QuantRows<Isa, DType::kQ4_1>;
    case DType::kQ5_0:
      return QuantRows<Isa, DType::kQ5_0>;
    case DType::kQ5_1:
      return QuantRows<Isa, DType::kQ5_1>;
    case DType::kQ4_K:
      return QuantRows<Isa, DType::kQ4_K>;
    case DType::kQ5_K:
      return QuantRows<Isa, DType::kQ5_K>;
    case DType::kQ6_K:
      return QuantRows<Isa, DType::kQ6_K>;
  }
  return nullptr;
}

// How a matrix is multiplied.
enum class WeightKind { kFloat, kWords, kTiles, kQuantized };

template <typename Isa>
constexpr WeightKind KindOf(DType dtype) {
  if (IsQuantized(dtype)) return WeightKind::kQuantized;
  if (dtype == DType::kBF16 && HasTiles<Isa>) return WeightKind::kTiles;
  return dtype == DType::kBF16 && Isa::kHasWordDot ? WeightKind::kWords : WeightKind::kFloat;
}

// Bytes of one token's activations, prepared for weights of a kind.
MILI_INLINE int64_t TokenBytes(WeightKind kind, int64_t cols) {
  switch (kind) {
    case WeightKind::kQuantized:
      return PanelTokenBytes(cols);
    case WeightKind::kTiles:
      return TileTokenBytes(cols);
    case WeightKind::kWords:
      return WordTokenBytes(cols);
    case WeightKind::kFloat:
      break;
  }
  return 4 * cols;  // as they are
}

template <typename Isa>
size_t LinearWorkspaceBytes(int64_t num_tokens, int64_t in_features) {
  return static_cast<size_t>(
      num_tokens *
      MaxOf(PanelTokenBytes(in_features + 31), TokenBytes(KindOf<Isa>(DType::kBF16), in_features)));
}

MILI_INLINE int64_t NumRowBlocks(const LinearPart& part, int64_t rows) {
  return (part.weight.rows + rows - 1) / rows;
}

// Row blocks [begin, end) of a part. Many tokens meet two blocks of words at a time, so that one
// load of theirs serves two products.
template <typename Isa>
void PartBlocks(const LinearParams& p, const LinearPart& part, int64_t begin, int64_t end,
                int64_t first_token, int64_t last_token) {
  int64_t block = begin;
  if constexpr (KindOf<Isa>(DType::kBF16) == WeightKind::kWords) {
    const bool has_many = last_token - first_token > Isa::kTokenTile;
    for (; part.weight.dtype == DType::kBF16 && has_many && block + 2 <= end; block += 2) {
      WordRows<Isa, 2>(p, part, block * Isa::kLanes, first_token, last_token);
    }
  }
  const RowBlockFunction run = RowBlockOf<Isa>(part.weight.dtype);
  for (; block < end; ++block) run(p, part, block * Isa::kLanes, first_token, last_token);
}

// Row blocks [begin, end), counted through all parts.
template <typename Isa>
void RowBlocks(const LinearParams& p, int64_t begin, int64_t end, int64_t first_token,
               int64_t last_token) {
  int64_t first_block = 0;
  for (int i = 0; i < p.num_parts; ++i) {
    const LinearPart& part = p.parts[i];
    const int64_t num_blocks = NumRowBlocks(part, Isa::kLanes);
    const int64_t to = MinOf(end - first_block, num_blocks);
    PartBlocks<Isa>(p, part, MaxOf(begin - first_block, 0), to, first_token, last_token);
    first_block += num_blocks;
  }
}

// Row blocks [begin, end) of gate and up, and what SiLU makes of them.
template <typename Isa>
void SiluBlocks(const LinearParams& p, int64_t begin, int64_t end, int64_t first_token,
                int64_t last_token) {
  const LinearPart& gate = p.parts[0];
  const LinearPart& up = p.parts[1];
  for (int64_t block = begin; block < end; block += 2) {
    const int64_t last_block = MinOf(block + 2, end);
    PartBlocks<Isa>(p, gate, block, last_block, first_token, last_token);
    PartBlocks<Isa>(p, up, block, last_block, first_token, last_token);
    const int64_t row = block * Isa::kLanes;
    const int64_t num_rows = MinOf(gate.weight.rows, last_block * Isa::kLanes) - row;
    for (int64_t t = first_token; t < last_token; ++t) {
      float* y = gate.y + t * gate.y_stride + row;
      SiluMulRow<Isa>(y, up.y + t * up.y_stride + row, num_rows, y);
    }
  }
}

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

// All parts are of one kind.
template <typename Isa>
void LinearOfKind(const LinearParams& p, WeightKind kind, ParallelFor& pool) {
  Prepare<Isa>(p, kind, pool);
  int64_t num_blocks = NumRowBlocks(p.parts[0], Isa::kLanes);
  for (int i = 1; i < p.num_parts && !p.silu_mul; ++i) {
    num_blocks += NumRowBlocks(p.parts[i], Isa::kLanes);
  }
  const int64_t token_block =
      MaxOf(kTokenBlockBytes / TokenBytes(kind, p.in_features) / 16 * 16, 32);
  const int64_t macs = num_blocks * Isa::kLanes * p.in_features * p.num_tokens;
  Split(pool, num_blocks, macs >= kMinParallelMacs, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < p.num_tokens; t += token_block) {
      const int64_t last = MinOf(t + token_block, p.num_tokens);
      if (p.silu_mul) {
        SiluBlocks<Isa>(p, begin, end, t, last);
      } else {
        RowBlocks<Isa>(p, begin, end, t, last);
      }
    }
  });
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

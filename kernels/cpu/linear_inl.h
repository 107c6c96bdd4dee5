// Linear: the split over threads and token blocks, and the choice of the code for a weight type.
#pragma once

#include "kernels/cpu/linear_bf16_inl.h"
#include "kernels/cpu/linear_float_inl.h"
#include "kernels/cpu/linear_quant_inl.h"
#include "kernels/cpu/linear_tiles_inl.h"
#include "kernels/cpu/share_inl.h"

namespace mili::kernels {
namespace {

// Tokens whose activations stay in a core's L2 beside the weights. More are done in blocks, each of
// which reads the weights again.
constexpr int64_t kTokenBlockBytes = 512 << 10;

// kLanes rows of a part, from `row` on, as many as there are, for tokens [begin, end).
template <typename Isa, typename W>
void FloatRowBlock(const LinearParams& p, const LinearPart& part, int64_t row, int64_t begin,
                   int64_t end) {
  FloatRows<Isa, W>(p, part, row, MinOf(row + Isa::kLanes, part.weight.rows), begin, end);
}

using RowBlockFunction = void (*)(const LinearParams&, const LinearPart&, int64_t, int64_t,
                                  int64_t);

template <typename Isa>
RowBlockFunction RowBlockOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return FloatRowBlock<Isa, F32Weights<Isa>>;
    case DType::kF16:
      return FloatRowBlock<Isa, F16Weights<Isa>>;
    case DType::kBF16:
      if constexpr (HasTiles<Isa>) {
        return TileRows<Isa>;
      } else if constexpr (Isa::kHasBf16Dot) {
        return Bf16Rows<Isa>;
      } else {
        return FloatRowBlock<Isa, Bf16Weights<Isa>>;
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
enum class WeightKind { kFloat, kBf16Pairs, kQuantized };

template <typename Isa>
constexpr WeightKind KindOf(DType dtype) {
  if (dtype == DType::kBF16 && Isa::kHasBf16Dot) return WeightKind::kBf16Pairs;
  return IsQuantized(dtype) ? WeightKind::kQuantized : WeightKind::kFloat;
}

template <typename Isa>
size_t PackedBytesOf(DType dtype, int64_t rows, int64_t cols) {
  return KindOf<Isa>(dtype) == WeightKind::kFloat ? 0 : PackedBytes(dtype, rows, cols);
}

// Bytes of one token's activations, prepared for weights of a kind.
MILI_INLINE int64_t TokenBytes(WeightKind kind, int64_t cols) {
  if (kind == WeightKind::kQuantized) return PanelTokenBytes(cols);
  return kind == WeightKind::kBf16Pairs ? Bf16TokenBytes(cols) : 4 * cols;
}

size_t LinearWorkspaceBytes(int64_t num_tokens, int64_t in_features) {
  return static_cast<size_t>(num_tokens *
                             MaxOf(TokenBytes(WeightKind::kQuantized, in_features + 31),
                                   TokenBytes(WeightKind::kBf16Pairs, in_features)));
}

MILI_INLINE int64_t NumRowBlocks(const LinearPart& part, int64_t rows) {
  return (part.weight.rows + rows - 1) / rows;
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
    const RowBlockFunction run = RowBlockOf<Isa>(part.weight.dtype);
    for (int64_t block = MaxOf(begin - first_block, 0); block < to; ++block) {
      run(p, part, block * Isa::kLanes, first_token, last_token);
    }
    first_block += num_blocks;
  }
}

// Brings x into panels of up to kTokenTile tokens.
template <typename Isa, int kTokenTile, typename PrepareToken>
void FillPanels(const LinearParams& p, ParallelFor& pool, PrepareToken prepare) {
  const int64_t num_panels = (p.num_tokens + kTokenTile - 1) / kTokenTile;
  Split(pool, num_panels, kTokenTile * p.in_features, [&](int64_t begin, int64_t end) {
    ForEachPanel<kTokenTile>(begin * kTokenTile, MinOf(end * kTokenTile, p.num_tokens),
                             p.num_tokens, [&](int64_t token, auto size) {
                               for (int t = 0; t < size.kValue; ++t) {
                                 prepare(p.x + (token + t) * p.in_features, t, token, size);
                               }
                             });
  });
}

template <typename Isa>
void Prepare(const LinearParams& p, WeightKind kind, ParallelFor& pool) {
  const int64_t cols = p.in_features;
  std::byte* const panels = p.workspace;
  if (kind == WeightKind::kQuantized) {
    FillPanels<Isa, Isa::kTokenTile>(p, pool, [&](const float* x, int t, int64_t first, auto size) {
      QuantizeToken<Isa, size.kValue>(x, cols, t, panels + first * PanelTokenBytes(cols));
    });
  }
  if constexpr (Isa::kHasBf16Dot) {
    if (kind != WeightKind::kBf16Pairs) return;
    FillPanels<Isa, Isa::kBf16Tokens>(
        p, pool, [&](const float* x, int t, int64_t first, auto size) {
          if constexpr (HasTiles<Isa>) {
            RoundRow<Isa>(x, cols, panels + (first + t) * Bf16TokenBytes(cols));
          } else {
            RoundToken<Isa, size.kValue>(x, cols, t, panels + first * Bf16TokenBytes(cols));
          }
        });
  }
}

// All parts are of one kind.
template <typename Isa>
void LinearOfKind(const LinearParams& p, WeightKind kind, ParallelFor& pool) {
  Prepare<Isa>(p, kind, pool);
  int64_t num_blocks = 0;
  for (int i = 0; i < p.num_parts; ++i) num_blocks += NumRowBlocks(p.parts[i], Isa::kLanes);
  const int64_t token_block =
      MaxOf(kTokenBlockBytes / TokenBytes(kind, p.in_features) / 16 * 16, 32);
  Split(pool, num_blocks, Isa::kLanes * p.in_features * p.num_tokens,
        [&](int64_t begin, int64_t end) {
          for (int64_t t = 0; t < p.num_tokens; t += token_block) {
            RowBlocks<Isa>(p, begin, end, t, MinOf(t + token_block, p.num_tokens));
          }
        });
}

template <typename Isa>
void Linear(const LinearParams& p, ParallelFor& pool) {
  for (const WeightKind kind :
       {WeightKind::kQuantized, WeightKind::kBf16Pairs, WeightKind::kFloat}) {
    LinearParams of_kind = p;
    of_kind.num_parts = 0;
    for (int i = 0; i < p.num_parts; ++i) {
      if (KindOf<Isa>(p.parts[i].weight.dtype) != kind) continue;
      of_kind.parts[of_kind.num_parts++] = p.parts[i];
    }
    if (of_kind.num_parts > 0) LinearOfKind<Isa>(of_kind, kind, pool);
  }
}

}  // namespace
}  // namespace mili::kernels

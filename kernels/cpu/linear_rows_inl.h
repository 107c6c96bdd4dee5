// Row blocks of a Linear: the choice of the code for a weight type, and parts one after the other.
#pragma once

#include "kernels/cpu/linear_float_inl.h"
#include "kernels/cpu/linear_quant_inl.h"
#include "kernels/cpu/linear_tiles_inl.h"
#include "kernels/cpu/linear_words_inl.h"
#include "kernels/cpu/row_ops_inl.h"

namespace mili::kernels {
namespace {

// kLanes rows of a part, from `row` on, as many as there are, for tokens [begin, end).
using RowBlockFunction = void (*)(const LinearParams&, const LinearPart&, int64_t, int64_t,
                                  int64_t);

// kLanes rows of one part, from a row on, and of another, for one token.
using TwoBlocksFunction = void (*)(const LinearParams&, const LinearPart&, int64_t,
                                   const LinearPart&, int64_t);

struct RowBlockCode {
  RowBlockFunction run;
  TwoBlocksFunction run_in_turn;  // may be missing
};

template <typename Isa, DType kType>
constexpr RowBlockCode kQuantCode = {QuantRows<Isa, kType>, QuantRowsInTurn<Isa, kType>};

template <typename Isa>
RowBlockCode RowBlockOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {FloatRows<Isa, DType::kF32>, nullptr};
    case DType::kF16:
      return {FloatRows<Isa, DType::kF16>, nullptr};
    case DType::kBF16:
      if constexpr (HasTiles<Isa>) {
        return {TileRows<Isa>, nullptr};
      } else if constexpr (Isa::kHasWordDot) {
        return {WordRows<Isa, 1>, nullptr};
      } else {
        return {FloatRows<Isa, DType::kBF16>, nullptr};
      }
    case DType::kQ8_0:
      return kQuantCode<Isa, DType::kQ8_0>;
    case DType::kQ4_0:
      return kQuantCode<Isa, DType::kQ4_0>;
    case DType::kQ4_1:
      return kQuantCode<Isa, DType::kQ4_1>;
    case DType::kQ5_0:
      return kQuantCode<Isa, DType::kQ5_0>;
    case DType::kQ5_1:
      return kQuantCode<Isa, DType::kQ5_1>;
    case DType::kQ4_K:
      return kQuantCode<Isa, DType::kQ4_K>;
    case DType::kQ5_K:
      return kQuantCode<Isa, DType::kQ5_K>;
    case DType::kQ6_K:
      return kQuantCode<Isa, DType::kQ6_K>;
  }
  return {};
}

// What multiplies two vectors of rows of a type for the tokens of `p`, where that is faster.
template <typename Isa>
TwoBlocksFunction TwoBlocksOf(const LinearParams& p, DType dtype) {
  const bool is_faster =
      p.num_tokens == 1 && StreamOfOneToken<Isa>(p.one_token) == OneTokenStream::kTwo;
  return is_faster ? RowBlockOf<Isa>(dtype).run_in_turn : nullptr;
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
  if (const TwoBlocksFunction run = TwoBlocksOf<Isa>(p, part.weight.dtype)) {
    const int64_t half = MaxOf(end - begin, 0) / 2;
    for (; block < begin + half; ++block) {
      run(p, part, block * Isa::kLanes, part, (block + half) * Isa::kLanes);
    }
    block += half;
  }
  const RowBlockFunction run = RowBlockOf<Isa>(part.weight.dtype).run;
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
  const TwoBlocksFunction run_in_turn =
      gate.weight.dtype == up.weight.dtype ? TwoBlocksOf<Isa>(p, gate.weight.dtype) : nullptr;
  for (int64_t block = begin; block < end; block += 2) {
    const int64_t last_block = MinOf(block + 2, end);
    const int64_t row = block * Isa::kLanes;
    if (run_in_turn != nullptr) {
      for (int64_t r = row; r < last_block * Isa::kLanes; r += Isa::kLanes) {
        run_in_turn(p, gate, r, up, r);
      }
    } else {
      PartBlocks<Isa>(p, gate, block, last_block, first_token, last_token);
      PartBlocks<Isa>(p, up, block, last_block, first_token, last_token);
    }
    const int64_t num_rows = MinOf(gate.weight.rows, last_block * Isa::kLanes) - row;
    for (int64_t t = first_token; t < last_token; ++t) {
      float* y = gate.y + t * gate.y_stride + row;
      SiluMulRow<Isa>(y, up.y + t * up.y_stride + row, num_rows, y);
    }
  }
}

}  // namespace
}  // namespace mili::kernels

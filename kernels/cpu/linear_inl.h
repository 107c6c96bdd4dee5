// Linear: the split over threads and token blocks, and the choice of the code for a weight type.
#pragma once

#include "kernels/cpu/linear_float_inl.h"
#include "kernels/cpu/linear_quant_inl.h"
#include "kernels/cpu/share_inl.h"

namespace mili::kernels {
namespace {

// Tokens whose activations stay in a core's L2 beside the weights. More are done in blocks, each of
// which reads the weights again.
constexpr int64_t kTokenBlockBytes = 512 << 10;

template <typename Isa>
void PartRows(const LinearParams& p, const LinearPart& part, int64_t begin, int64_t end,
              int64_t first_token, int64_t last_token) {
  const auto run = [&](auto rows) { rows(p, part, begin, end, first_token, last_token); };
  switch (part.weight.dtype) {
    case DType::kF32:
      return run(FloatRows<Isa, F32Weights<Isa>>);
    case DType::kF16:
      return run(FloatRows<Isa, F16Weights<Isa>>);
    case DType::kBF16:
      return run(FloatRows<Isa, Bf16Weights<Isa>>);
    case DType::kQ8_0:
      return run(QuantRows<Isa, Q8_0<Isa>>);
    case DType::kQ4_0:
      return run(QuantRows<Isa, Q4_0<Isa>>);
    case DType::kQ4_1:
      return run(QuantRows<Isa, Q4_1<Isa>>);
    case DType::kQ5_0:
      return run(QuantRows<Isa, Q5_0<Isa>>);
    case DType::kQ5_1:
      return run(QuantRows<Isa, Q5_1<Isa>>);
    case DType::kQ4_K:
      return run(QuantRows<Isa, Q4_K<Isa>>);
    case DType::kQ5_K:
      return run(QuantRows<Isa, Q5_K<Isa>>);
    case DType::kQ6_K:
      return run(QuantRows<Isa, Q6_K<Isa>>);
  }
}

size_t LinearWorkspaceBytes(int64_t num_tokens, int64_t in_features) {
  return static_cast<size_t>(num_tokens * QuantizedRowBytes(in_features));
}

MILI_INLINE int64_t NumGroups(const LinearPart& part, int64_t lanes) {
  return (part.weight.rows + lanes - 1) / lanes;
}

// Groups [begin, end) of kLanes rows, counted through all parts.
template <typename Isa>
void Groups(const LinearParams& p, int64_t begin, int64_t end, int64_t first_token,
            int64_t last_token) {
  int64_t first_group = 0;
  for (int i = 0; i < p.num_parts; ++i) {
    const LinearPart& part = p.parts[i];
    const int64_t num_groups = NumGroups(part, Isa::kLanes);
    const int64_t from = MaxOf(begin - first_group, 0);
    const int64_t to = MinOf(end - first_group, num_groups);
    if (from < to) {
      PartRows<Isa>(p, part, from * Isa::kLanes, MinOf(to * Isa::kLanes, part.weight.rows),
                    first_token, last_token);
    }
    first_group += num_groups;
  }
}

template <typename Isa>
void Linear(const LinearParams& p, ParallelFor& pool) {
  bool is_quantized = false;
  int64_t num_groups = 0;
  for (int i = 0; i < p.num_parts; ++i) {
    const DType dtype = p.parts[i].weight.dtype;
    is_quantized |= dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16;
    num_groups += NumGroups(p.parts[i], Isa::kLanes);
  }
  if (is_quantized) {
    Split(pool, p.num_tokens, p.in_features, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        QuantizeRow<Isa>(p.x + t * p.in_features, p.in_features,
                         RowAt(p.workspace, t, p.in_features));
      }
    });
  }
  const int64_t token_bytes = is_quantized ? QuantizedRowBytes(p.in_features) : 4 * p.in_features;
  const int64_t block = MaxOf(kTokenBlockBytes / token_bytes / 8 * 8, 32);
  Split(pool, num_groups, Isa::kLanes * p.in_features * p.num_tokens,
        [&](int64_t begin, int64_t end) {
          for (int64_t t = 0; t < p.num_tokens; t += block) {
            Groups<Isa>(p, begin, end, t, MinOf(t + block, p.num_tokens));
          }
        });
}

}  // namespace
}  // namespace mili::kernels

// The kernels that take one row after the other: embedding, norm, activation, q/k/v preparation.
#pragma once

#include "kernels/cpu/share_inl.h"
#include "kernels/params.h"

namespace mili::kernels {
namespace {

// out = x * scale * weight, where scale = 1 / rms(x).
template <typename Isa>
MILI_INLINE void NormRow(const float* x, const float* weight, float eps, int64_t n, float* out) {
  const float mean = LaneDot<Isa>(x, x, n) / static_cast<float>(n);
  const float scale = 1.0f / __builtin_sqrtf(mean + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

template <typename Isa>
void AddRmsNormToken(const AddRmsNormParams& p, int64_t t) {
  const int64_t n = p.hidden_size;
  float* __restrict residual = p.residual + t * n;
  if (p.delta != nullptr) {
    const float* __restrict delta = p.delta + t * n;
    for (int64_t i = 0; i < n; ++i) residual[i] += delta[i];
  }
  NormRow<Isa>(residual, p.weight, p.eps, n, p.out + t * n);
}

template <typename Isa>
void AddRmsNorm(const AddRmsNormParams& p, ParallelFor& pool) {
  Split(pool, p.num_tokens, p.num_tokens * p.hidden_size >= kMinParallelElements,
        [&](int64_t begin, int64_t end) {
          for (int64_t t = begin; t < end; ++t) AddRmsNormToken<Isa>(p, t);
        });
}

template <typename Isa>
MILI_INLINE typename Isa::F Silu(typename Isa::F x) {
  return x / (Exp<Isa>(-x) + 1.0f);
}

// out[0, n) = silu(gate) * up; out may be gate.
template <typename Isa>
MILI_INLINE void SiluMulRow(const float* gate, const float* up, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + Isa::kLanes <= n; i += Isa::kLanes) {
    StoreAs(out + i, Silu<Isa>(LoadF<Isa>(gate + i)) * LoadF<Isa>(up + i));
  }
  if (i == n) return;
  StoreFirst<Isa>(
      out + i, Silu<Isa>(LoadFirst<Isa>(gate + i, n - i)) * LoadFirst<Isa>(up + i, n - i), n - i);
}

template <typename Isa>
void SiluMul(const SiluMulParams& p, ParallelFor& pool) {
  const int64_t count = p.num_tokens * p.size;
  Split(pool, (count + Isa::kLanes - 1) / Isa::kLanes, count >= kMinParallelElements,
        [&](int64_t begin, int64_t end) {
          const int64_t first = begin * Isa::kLanes;
          const int64_t n = MinOf(end * Isa::kLanes, count) - first;
          SiluMulRow<Isa>(p.gate + first, p.up + first, n, p.out + first);
        });
}

// Half-split rotary embedding, in place.
template <typename Isa>
MILI_INLINE void RotateHead(float* head, const float* cos, const float* sin, int64_t half) {
  using F = typename Isa::F;
  int64_t i = 0;
  for (; i + Isa::kLanes <= half; i += Isa::kLanes) {
    const F a = LoadF<Isa>(head + i);
    const F b = LoadF<Isa>(head + i + half);
    const F c = LoadF<Isa>(cos + i);
    const F s = LoadF<Isa>(sin + i);
    StoreAs(head + i, a * c - b * s);
    StoreAs(head + i + half, b * c + a * s);
  }
  for (; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * cos[i] - b * sin[i];
    head[i + half] = b * cos[i] + a * sin[i];
  }
}

template <typename Isa>
MILI_INLINE void StoreKv(const float* head, const KvLayer& kv, std::byte* base, int64_t offset,
                         int64_t head_dim) {
  if (kv.dtype == DType::kF32) {
    __builtin_memcpy(base + offset * 4, head, head_dim * sizeof(float));
    return;
  }
  std::byte* out = base + offset * 2;
  int64_t i = 0;
  for (; i + Isa::kLanes <= head_dim; i += Isa::kLanes) {
    Isa::StoreBf16(out + i * 2, LoadF<Isa>(head + i));
  }
  if (i < head_dim) {
    uint16_t rest[Isa::kLanes];
    Isa::StoreBf16(rest, LoadFirst<Isa>(head + i, head_dim - i));
    __builtin_memcpy(out + i * 2, rest, (head_dim - i) * 2);
  }
}

// A token's K and V of one head, and q of the heads that read it.
template <typename Isa>
void PrepareHead(const QkvPrepareParams& p, int64_t t, int64_t kv_head) {
  const int64_t half = p.head_dim / 2;
  const float* cos = p.rope_cos + p.positions[t] * half;
  const float* sin = p.rope_sin + p.positions[t] * half;
  const int64_t group = p.num_heads / p.num_kv_heads;
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    float* q = p.q + t * p.q_stride + h * p.head_dim;
    if (p.q_norm != nullptr) NormRow<Isa>(q, p.q_norm, p.eps, p.head_dim, q);
    RotateHead<Isa>(q, cos, sin, half);
  }
  const int64_t page = p.slot_map[t] / p.kv.page_size_tokens;
  const int64_t in_page = p.slot_map[t] % p.kv.page_size_tokens;
  float* k = p.k + t * p.kv_stride + kv_head * p.head_dim;
  if (p.k_norm != nullptr) NormRow<Isa>(k, p.k_norm, p.eps, p.head_dim, k);
  RotateHead<Isa>(k, cos, sin, half);
  const int64_t offset =
      page * p.kv.page_stride + kv_head * p.kv.head_stride + in_page * p.head_dim;
  StoreKv<Isa>(k, p.kv, p.kv.k, offset, p.head_dim);
  StoreKv<Isa>(p.v + t * p.kv_stride + kv_head * p.head_dim, p.kv, p.kv.v, offset, p.head_dim);
}

MILI_INLINE bool IsWorthThreads(const QkvPrepareParams& p) {
  const int64_t elements = (p.num_heads + 2 * p.num_kv_heads) * p.head_dim;
  return p.num_tokens * elements >= kMinParallelElements;
}

template <typename Isa>
void QkvPrepare(const QkvPrepareParams& p, ParallelFor& pool) {
  Split(pool, p.num_tokens, IsWorthThreads(p), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < p.num_kv_heads; ++h) PrepareHead<Isa>(p, t, h);
    }
  });
}

}  // namespace
}  // namespace mili::kernels

#include "kernels/reference/qkv_prepare.h"

#include <cmath>
#include <cstring>

#include "kernels/reference/dequant.h"
#include "kernels/reference/lanes.h"
#include "kernels/reference/share.h"

namespace mili::kernels::reference {
namespace {

void NormHead(float* head, const float* weight, float eps, int64_t head_dim) {
  const float mean = Dot(head, head, head_dim) / static_cast<float>(head_dim);
  const float scale = 1.0f / std::sqrt(mean + eps);
  for (int64_t i = 0; i < head_dim; ++i) head[i] = head[i] * scale * weight[i];
}

void RotateHead(float* head, const float* cos, const float* sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * cos[i] - b * sin[i];
    head[i + half] = b * cos[i] + a * sin[i];
  }
}

void StoreHead(const float* head, DType dtype, std::byte* base, int64_t offset, int64_t head_dim) {
  if (dtype == DType::kF32) {
    std::memcpy(base + offset * 4, head, head_dim * sizeof(float));
    return;
  }
  auto* out = reinterpret_cast<uint16_t*>(base) + offset;
  for (int64_t i = 0; i < head_dim; ++i) out[i] = FloatToBf16(head[i]);
}

void OneToken(const QkvPrepareParams& p, int64_t t) {
  const int64_t half = p.head_dim / 2;
  const float* cos = p.rope_cos + p.positions[t] * half;
  const float* sin = p.rope_sin + p.positions[t] * half;
  for (int64_t h = 0; h < p.num_heads; ++h) {
    float* q = p.q + t * p.q_stride + h * p.head_dim;
    if (p.q_norm != nullptr) NormHead(q, p.q_norm, p.eps, p.head_dim);
    RotateHead(q, cos, sin, p.head_dim);
  }
  const int64_t page = p.slot_map[t] / p.kv.page_size_tokens;
  const int64_t in_page = p.slot_map[t] % p.kv.page_size_tokens;
  for (int64_t h = 0; h < p.num_kv_heads; ++h) {
    float* k = p.k + t * p.kv_stride + h * p.head_dim;
    const float* v = p.v + t * p.kv_stride + h * p.head_dim;
    if (p.k_norm != nullptr) NormHead(k, p.k_norm, p.eps, p.head_dim);
    RotateHead(k, cos, sin, p.head_dim);
    const int64_t offset = page * p.kv.page_stride + h * p.kv.head_stride + in_page * p.head_dim;
    StoreHead(k, p.kv.dtype, p.kv.k, offset, p.head_dim);
    StoreHead(v, p.kv.dtype, p.kv.v, offset, p.head_dim);
  }
}

}  // namespace

void QkvPrepare(const QkvPrepareParams& p, ParallelFor& pool) {
  const int64_t elements = (p.num_heads + 2 * p.num_kv_heads) * p.head_dim;
  ForEachShare(pool, p.num_tokens, elements, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) OneToken(p, t);
  });
}

}  // namespace mili::kernels::reference

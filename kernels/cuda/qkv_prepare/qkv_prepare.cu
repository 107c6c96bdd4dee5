#include "kernels/cuda/common/dispatch.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/vec8.cuh"
#include "kernels/cuda/qkv_prepare/qkv_prepare.h"

namespace mili::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kPageTokens = 16;

// cos and sin of the 8 pairs that a thread's elements belong to.
struct Rotation {
  float cos[kVec];
  float sin[kVec];
};

__device__ __forceinline__ void LoadRotation(const QkvPrepareParams& p, int32_t position,
                                             int32_t first_pair, Rotation& rotation) {
  const int64_t at = (static_cast<int64_t>(position) * (p.head_dim / 2) + first_pair) / 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    reinterpret_cast<float4*>(rotation.cos)[i] =
        reinterpret_cast<const float4*>(p.rope_cos)[at + i];
    reinterpret_cast<float4*>(rotation.sin)[i] =
        reinterpret_cast<const float4*>(p.rope_sin)[at + i];
  }
}

// Norms and rotates the 8 elements that this thread holds of a head; `lanes` neighbouring threads
// hold the head, the partner of an element is half a head away.
template <typename T>
__device__ __forceinline__ void NormAndRotate(float (&v)[kVec], const void* norm, float eps,
                                              int32_t lane, int32_t lanes,
                                              const Rotation& rotation) {
  if (norm != nullptr) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kVec; ++i) sum += v[i] * v[i];
    for (int step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    const float scale = rsqrtf(sum / static_cast<float>(lanes * kVec) + eps);
    float w[kVec];
    Unpack<T>(static_cast<const uint4*>(norm)[lane], w);
#pragma unroll
    for (int i = 0; i < kVec; ++i) v[i] = v[i] * scale * w[i];
  }
  const float sign = lane < lanes / 2 ? -1.0f : 1.0f;
#pragma unroll
  for (int i = 0; i < kVec; ++i) {
    const float partner = __shfl_xor_sync(~0u, v[i], lanes / 2);
    v[i] = v[i] * rotation.cos[i] + sign * partner * rotation.sin[i];
  }
}

// Block (x, t): heads of token t, kHeads for each group of head_dim / 8 threads.
template <typename T, int kHeads>
__global__ void __launch_bounds__(kThreads) QkvPrepareKernel(const QkvPrepareParams p) {
  const int32_t lanes = p.head_dim / kVec;
  const int32_t lane = threadIdx.x & (lanes - 1);
  const int32_t groups = kThreads / lanes;
  const int32_t group = threadIdx.x / lanes;
  const int32_t num_rotated = p.num_heads + p.num_kv_heads;
  const int32_t num_all = num_rotated + p.num_kv_heads;
  const int32_t first_head = blockIdx.x * groups * kHeads + group;
  WaitForProducers();
  LetDependentsStart();
  const int64_t token = blockIdx.y;
  const int32_t slot = p.slot_map[token];
  if (slot < 0) return;
  auto* row = static_cast<uint4*>(p.qkv) + token * (p.qkv_stride / kVec);
  uint4 bits[kHeads];
#pragma unroll
  for (int j = 0; j < kHeads; ++j) {
    const int32_t head = first_head + j * groups;
    if (head < num_all) bits[j] = row[head * lanes + lane];
  }
  Rotation rotation;
  LoadRotation(p, p.positions[token], (lane & (lanes / 2 - 1)) * kVec, rotation);
  auto* page = static_cast<uint4*>(p.pages) + slot / kPageTokens * (p.page_stride / kVec);
#pragma unroll
  for (int j = 0; j < kHeads; ++j) {
    const int32_t head = first_head + j * groups;
    float v[kVec];
    Unpack<T>(bits[j], v);
    if (p.bias != nullptr && head < num_all) {
      float b[kVec];
      Unpack<T>(static_cast<const uint4*>(p.bias)[head * lanes + lane], b);
#pragma unroll
      for (int i = 0; i < kVec; ++i) v[i] += b[i];
    }
    // Threads past the last head and those of V take part: the shuffles want whole warps.
    float rotated[kVec];
#pragma unroll
    for (int i = 0; i < kVec; ++i) rotated[i] = v[i];
    NormAndRotate<T>(rotated, head < p.num_heads ? p.q_norm : p.k_norm, p.eps, lane, lanes,
                     rotation);
    if (head >= num_all) continue;
    const uint4 result = Pack<T>(head < num_rotated ? rotated : v);
    if (head < p.num_heads || p.keep_kv) row[head * lanes + lane] = result;
    if (head < p.num_heads) continue;
    const int32_t kv_head = head - p.num_heads;  // K heads, then V heads, as the page has them
    page[(kv_head * kPageTokens + slot % kPageTokens) * lanes + lane] = result;
  }
}

}  // namespace

cudaError_t QkvPrepare(const QkvPrepareParams& p, cudaStream_t stream) {
  const bool is_head_dim = p.head_dim == 16 || p.head_dim == 32 || p.head_dim == 64 ||
                           p.head_dim == 128 || p.head_dim == 256;
  if (p.num_tokens <= 0 || p.num_tokens > 65535 || p.num_heads <= 0 || p.num_kv_heads <= 0 ||
      !is_head_dim || p.qkv_stride % kVec != 0 || p.page_stride % kVec != 0) {
    return cudaErrorInvalidValue;
  }
  const int32_t num_all = p.num_heads + 2 * p.num_kv_heads;
  return ForHalfType(p.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    const auto launch = [&](auto kernel, int32_t heads_per_group) {
      const int32_t heads_per_block = kThreads / (p.head_dim / kVec) * heads_per_group;
      const dim3 grid((num_all + heads_per_block - 1) / heads_per_block, p.num_tokens);
      return Launch(kernel, grid, dim3(kThreads), 0, p.pdl, stream, p);
    };
    // Few tokens: as many threads as there are. Many: cos and sin are loaded once for more heads.
    return p.num_tokens <= 64 ? launch(QkvPrepareKernel<T, 1>, 1)
                              : launch(QkvPrepareKernel<T, 4>, 4);
  });
}

}  // namespace mili::kernels::cuda

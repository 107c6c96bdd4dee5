#include "kernels/cuda/attention/plan.h"
#include "kernels/cuda/common/dispatch.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/vec8.cuh"
#include "kernels/cuda/qkv_prepare/qkv_prepare.h"

namespace mili::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kPageTokens = 16;
constexpr int kHalf = kVec / 2;
constexpr int kBlocksAhead = 66;  // that bring KV into the L2

// What a thread holds of a head: elements 4 lane .. 4 lane + 3 of each half, so that a rotation
// needs no other thread. head_dim / 8 neighbouring threads hold the head.
struct Piece {
  uint2 low;
  uint2 high;
};

__device__ __forceinline__ Piece LoadPiece(const void* head, int32_t lane, int32_t lanes) {
  const auto* halves = static_cast<const uint2*>(head);
  return {halves[lane], halves[lanes + lane]};
}

__device__ __forceinline__ void StorePiece(void* head, int32_t lane, int32_t lanes,
                                           const Piece& piece) {
  auto* halves = static_cast<uint2*>(head);
  halves[lane] = piece.low;
  halves[lanes + lane] = piece.high;
}

template <typename T>
__device__ __forceinline__ void UnpackPiece(const Piece& piece, float (&v)[kVec]) {
  Unpack<T>(uint4{piece.low.x, piece.low.y, piece.high.x, piece.high.y}, v);
}

template <typename T>
__device__ __forceinline__ Piece PackPiece(const float (&v)[kVec]) {
  const uint4 bits = Pack<T>(v);
  return {{bits.x, bits.y}, {bits.z, bits.w}};
}

template <typename T>
__device__ __forceinline__ void NormHead(float (&v)[kVec], const Piece& weight, float eps,
                                         int32_t lanes) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVec; ++i) sum += v[i] * v[i];
  for (int step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  const float scale = rsqrtf(sum / static_cast<float>(lanes * kVec) + eps);
  float w[kVec];
  UnpackPiece<T>(weight, w);
#pragma unroll
  for (int i = 0; i < kVec; ++i) v[i] = v[i] * scale * w[i];
}

__device__ __forceinline__ void RotateHead(float (&v)[kVec], const float4& cos, const float4& sin) {
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float c = (&cos.x)[i];
    const float s = (&sin.x)[i];
    const float a = v[i];
    const float b = v[kHalf + i];
    v[i] = a * c - b * s;
    v[kHalf + i] = b * c + a * s;
  }
}

// Asks for the first pages of the shares `warp`, `warp` + num_warps, ... of decode's plan.
__device__ __forceinline__ void BringKv(const QkvPrepareParams& p, int32_t warp,
                                        int32_t num_warps) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr int kPagesAhead = 4;  // more, 8 MB on an H100, hold up the end of this kernel
  const auto* plan = reinterpret_cast<const DecodePlanHeader*>(p.ahead.plan);
  const auto* shares = reinterpret_cast<const DecodeShare*>(plan + 1);
  const int32_t lane = threadIdx.x % 32;
  const int32_t tile = kPageTokens * p.head_dim;  // elements of K or V of a page and head
  for (int32_t i = warp; i < plan->num_active; i += num_warps) {
    const DecodeShare share = shares[i];
    const int32_t page_of_seq = share.block * p.ahead.num_warps + lane / 2;
    if (lane / 2 >= min(kPagesAhead, share.num_blocks * p.ahead.num_warps)) continue;
    if (page_of_seq * kPageTokens >= share.len) continue;
    const int64_t page =
        p.ahead.page_table[int64_t{share.seq} * p.ahead.page_table_stride + page_of_seq];
    const int32_t is_v = lane % 2;
    const auto* from = static_cast<const uint16_t*>(p.pages) + page * p.page_stride +
                       int64_t{is_v * p.num_kv_heads + share.kv_head} * tile;
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(tile * 2)
                 : "memory");
  }
#endif
}

// Block (x, y): heads of token y - y0, kHeads for each group of head_dim / 8 threads. The y0 first
// rows of blocks bring KV into the L2.
template <typename T, int kHeads>
__global__ void __launch_bounds__(kThreads) QkvPrepareKernel(const QkvPrepareParams p) {
  const int32_t rows_ahead = static_cast<int32_t>(gridDim.y) - p.num_tokens;
  if (static_cast<int32_t>(blockIdx.y) < rows_ahead) {
    LetDependentsStart();
    const int32_t block = static_cast<int32_t>(blockIdx.y * gridDim.x + blockIdx.x);
    constexpr int kWarps = kThreads / 32;
    BringKv(p, block * kWarps + threadIdx.x / 32, rows_ahead * gridDim.x * kWarps);
    return;
  }
  const int32_t lanes = p.head_dim / kVec;
  const int32_t lane = threadIdx.x & (lanes - 1);
  const int32_t groups = kThreads / lanes;
  const int32_t num_rotated = p.num_heads + p.num_kv_heads;
  const int32_t num_all = num_rotated + p.num_kv_heads;
  const int32_t first_head = blockIdx.x * groups * kHeads + threadIdx.x / lanes;
  Piece q_norm = {};
  Piece k_norm = {};
  if (p.q_norm != nullptr) q_norm = LoadPiece(p.q_norm, lane, lanes);
  if (p.k_norm != nullptr) k_norm = LoadPiece(p.k_norm, lane, lanes);
  LetDependentsStart();  // attention can copy old KV while the product ahead of this ends
  WaitForProducers();
  const int64_t token = static_cast<int32_t>(blockIdx.y) - rows_ahead;
  const int32_t slot = p.slot_map[token];
  const int64_t angles = (static_cast<int64_t>(p.positions[token]) * lanes + lane);
  T* row = static_cast<T*>(p.qkv) + token * p.qkv_stride;
  Piece pieces[kHeads];
#pragma unroll
  for (int j = 0; j < kHeads; ++j) {
    const int32_t head = first_head + j * groups;
    if (head < num_all) pieces[j] = LoadPiece(row + head * p.head_dim, lane, lanes);
  }
  if (slot < 0) return;
  const float4 cos = reinterpret_cast<const float4*>(p.rope_cos)[angles];
  const float4 sin = reinterpret_cast<const float4*>(p.rope_sin)[angles];
  T* page = static_cast<T*>(p.pages) + slot / kPageTokens * p.page_stride +
            slot % kPageTokens * p.head_dim;
#pragma unroll
  for (int j = 0; j < kHeads; ++j) {
    const int32_t head = first_head + j * groups;
    float v[kVec];
    UnpackPiece<T>(pieces[j], v);
    if (p.bias != nullptr && head < num_all) {
      const T* bias = static_cast<const T*>(p.bias) + head * p.head_dim;
      float b[kVec];
      UnpackPiece<T>(LoadPiece(bias, lane, lanes), b);
#pragma unroll
      for (int i = 0; i < kVec; ++i) v[i] += b[i];
    }
    // Whole warps, for the sake of the shuffles: V's heads and those past the last have norm 1.
    const bool is_q = head < p.num_heads;
    if (p.q_norm != nullptr || p.k_norm != nullptr) {
      float normed[kVec];
#pragma unroll
      for (int i = 0; i < kVec; ++i) normed[i] = v[i];
      const Piece norm = {
          {is_q ? q_norm.low.x : k_norm.low.x, is_q ? q_norm.low.y : k_norm.low.y},
          {is_q ? q_norm.high.x : k_norm.high.x, is_q ? q_norm.high.y : k_norm.high.y}};
      NormHead<T>(normed, norm, p.eps, lanes);
      const bool has_norm = is_q ? p.q_norm != nullptr : p.k_norm != nullptr;
#pragma unroll
      for (int i = 0; i < kVec; ++i) v[i] = has_norm && head < num_rotated ? normed[i] : v[i];
    }
    if (head >= num_all) continue;
    if (head < num_rotated) RotateHead(v, cos, sin);
    const Piece result = PackPiece<T>(v);
    if (is_q || p.keep_kv) StorePiece(row + head * p.head_dim, lane, lanes, result);
    if (is_q) continue;
    const int32_t kv_head = head - p.num_heads;  // K heads, then V heads, as the page has them
    StorePiece(page + kv_head * kPageTokens * p.head_dim, lane, lanes, result);
  }
}

}  // namespace

cudaError_t QkvPrepare(const QkvPrepareParams& p, cudaStream_t stream) {
  const bool is_head_dim = p.head_dim == 16 || p.head_dim == 32 || p.head_dim == 64 ||
                           p.head_dim == 128 || p.head_dim == 256;
  if (p.num_tokens <= 0 || p.num_tokens > 65000 || p.num_heads <= 0 || p.num_kv_heads <= 0 ||
      !is_head_dim || p.qkv_stride % kVec != 0 || p.page_stride % kVec != 0) {
    return cudaErrorInvalidValue;
  }
  const int32_t num_all = p.num_heads + 2 * p.num_kv_heads;
  return ForHalfType(p.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    const auto launch = [&](auto kernel, int32_t heads_per_group) {
      const int32_t heads_per_block = kThreads / (p.head_dim / kVec) * heads_per_group;
      const int32_t width = (num_all + heads_per_block - 1) / heads_per_block;
      const int32_t rows_ahead = p.ahead.plan == nullptr ? 0 : (kBlocksAhead + width - 1) / width;
      const dim3 grid(width, p.num_tokens + rows_ahead);
      return Launch(kernel, grid, dim3(kThreads), 0, p.pdl, stream, p);
    };
    // Few tokens: as many threads as there are. Many: cos and sin are loaded once for two heads.
    return p.num_tokens <= 2048 ? launch(QkvPrepareKernel<T, 1>, 1)
                                : launch(QkvPrepareKernel<T, 2>, 2);
  });
}

}  // namespace mili::kernels::cuda

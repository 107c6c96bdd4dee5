#include "kernels/cuda/common/dispatch.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/embed/embed.h"
#include "kernels/cuda/norm/norm_row.cuh"

namespace mili::kernels::cuda {
namespace {

// One block a token.
template <typename T, int kVecs>
__global__ void EmbedKernel(const EmbedParams p) {
  __shared__ uint32_t scratch[64];
  const int32_t num_vecs = p.hidden_size / kVec;
  uint4 weight[kVecs];
  if (p.norm_weight != nullptr) LoadRow(p.norm_weight, 0, num_vecs, weight);
  WaitForProducers();
  LetDependentsStart();
  const int64_t row = blockIdx.x;
  const int32_t slot = p.feed_slots != nullptr ? p.feed_slots[row] : -1;
  const int32_t id = slot >= 0 ? p.last_tokens[slot] : p.token_ids[row];
  uint4 bits[kVecs] = {};
  if (id >= 0 && id < p.vocab_size) LoadRow(p.table, id, num_vecs, bits);
  StoreRow(p.out, row, num_vecs, bits);
  if (p.norm_weight == nullptr) return;
  float v[kVecs][kVec];
#pragma unroll
  for (int j = 0; j < kVecs; ++j) Unpack<T>(bits[j], v[j]);
  NormRow<T>(v, weight, num_vecs, {p.normed, p.fp8, p.eps}, row, scratch);
}

}  // namespace

cudaError_t Embed(const EmbedParams& p, cudaStream_t stream) {
  if (p.num_tokens <= 0 || p.hidden_size <= 0 || p.hidden_size % kVec != 0 ||
      p.hidden_size > 16384) {
    return cudaErrorInvalidValue;
  }
  return ForRow<256, 2048>(p.dtype, p.hidden_size / kVec, [&](auto type, auto vecs) {
    using T = typename decltype(type)::Type;
    constexpr int kVecs = decltype(vecs)::value;
    return Launch(EmbedKernel<T, kVecs>, dim3(p.num_tokens),
                  dim3(RowThreads(p.hidden_size / kVec, kVecs)), 0, p.pdl, stream, p);
  });
}

}  // namespace mili::kernels::cuda

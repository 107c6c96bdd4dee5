// Shape, work split and arguments of the kernel. Device code.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/decode_layers/decode_layers.h"

namespace mili::kernels::cuda {
namespace decode_layers {

// Qwen3-0.6B. Each block has an equal share of the rows of every matrix, in whole groups of 8.
inline constexpr int kHidden = 1024;
inline constexpr int kHeads = 16;
inline constexpr int kKvHeads = 8;
inline constexpr int kGroup = kHeads / kKvHeads;
inline constexpr int kHeadDim = 128;
inline constexpr int kInter = 3072;
inline constexpr int kQkv = (kHeads + 2 * kKvHeads) * kHeadDim;
inline constexpr int kBlocks = 128;

inline constexpr int kWarps = 8;  // that calculate; one more loads
inline constexpr int kThreads = (kWarps + 1) * 32;
inline constexpr int kPageTokens = 16;
inline constexpr int kSlotBytes = 8192;  // of the ring: a copy of weights, or a head's page
inline constexpr int kHeadPageBytes = kPageTokens * kHeadDim * 2;  // of K or V
static_assert(kSlotBytes == 2 * kHeadPageBytes);

// A part of attention: sums of a head's 128 elements, the largest score and the sum of weights.
inline constexpr int kPartWords = kHeadDim + 8;
inline constexpr int kMaxShares = 16;

// Words of the exchange for `rows` rows, see exchange.cuh. Two elements a word, but one in parts.
struct Exchange {
  uint64_t* mlp_out;        // [rows, kHidden / 2] the residual after a layer
  uint64_t* attention_out;  // [rows, kHidden / 2] the residual after attention
  uint64_t* qkv;            // [rows, kQkv / 2]
  uint64_t* heads;          // [rows, kHeads * kHeadDim / 2] what attention gives
  uint64_t* activation;     // [rows, kInter / 2]
  uint64_t* parts;          // [rows, kHeads, shares, kPartWords]
};
inline constexpr int kExchangeWords =
    kMaxDecodeLayersRows * (kHidden + kQkv / 2 + kHeads * kHeadDim / 2 + kInter / 2) +
    kHeads * kMaxShares * kPartWords;

struct Args {
  DecodeLayer layers[kMaxDecodeLayers];
  int32_t num_layers;
  float eps;
  float scale_log2;  // of q k^T, for powers of two
  __nv_bfloat16* residual;
  const float* rope_cos;
  const float* rope_sin;
  const int32_t* positions;
  const int32_t* slot_map;
  const int32_t* page_table;
  int32_t page_table_stride;
  const int32_t* context_lens;
  int64_t page_stride_bytes;
  Exchange exchange;
  uint32_t* launch;  // the tag before this launch's first
};

}  // namespace decode_layers
}  // namespace mili::kernels::cuda

// The skinny kernel (see skinny.h). One warp loads weights, the others multiply: each takes an
// eighth of every chunk of k, and their sums meet in shared memory at the end of a tile. Weights
// depend on no other kernel, so their warp does not wait for the producers of x. Where x is kept,
// each multiplying warp brings its own parts of it; else one more warp loads x with every stage.
//
// The order of k inside a product is free, so a lane reads 16 consecutive bytes of its weight row
// and the same elements of its token, and calls them the fragment: no ldmatrix, no swizzle.
#pragma once

#include "kernels/cuda/common/bulk_copy.cuh"
#include "kernels/cuda/common/cp_async.cuh"
#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/linear/skinny_args.h"
#include "kernels/cuda/linear/skinny_epilogue.cuh"
#include "kernels/cuda/linear/skinny_tokens.cuh"
#include "kernels/cuda/linear/skinny_weights.cuh"

namespace mili::kernels::cuda {
namespace skinny {

// Addresses of the barriers.
struct Barriers {
  uint32_t full;   // [num_stages]: the stage has come
  uint32_t empty;  // [num_stages]: all warps have read it
};

// A position in the ring, of one warp.
struct Ring {
  int num_stages;
  int slot = 0;
  uint32_t parity = 0;

  __device__ void Advance() {
    if (++slot < num_stages) return;
    slot = 0;
    parity ^= 1;
  }
};

// The warp that loads weights: lane r brings row r of a tile's chunk.
template <typename Weights>
__device__ void LoadWeights(const SkinnyArgs& a, const Barriers& barriers, uint32_t base) {
  constexpr int kChunk = kSkinnyChunkBytes / Weights::kBytes;
  const int lane = threadIdx.x % 32;
  const uint64_t policy = EvictFirst();
  Ring ring = {a.layout.num_stages};
  bool is_first_round = true;
  for (int tile = blockIdx.x; tile < a.num_tiles; tile += gridDim.x) {
    const int64_t row = min(tile * a.tile_rows + lane, a.n - 1);
    const char* from = static_cast<const char*>(a.w) + row * a.k * Weights::kBytes;
    for (int chunk = 0; chunk < a.num_chunks; ++chunk) {
      if (!is_first_round) WaitForPhase(barriers.empty + 8 * ring.slot, ring.parity ^ 1);
      const int bytes = min(kChunk, a.k - chunk * kChunk) * Weights::kBytes;
      const uint32_t barrier = barriers.full + 8 * ring.slot;
      if (lane == 0) ArriveExpecting(barrier, a.tile_rows * bytes);
      __syncwarp();
      if (lane < a.tile_rows) {
        const uint32_t to = base + a.layout.stages + ring.slot * a.layout.stage_bytes;
        BulkCopy(to + lane * kSkinnyWeightPitch, from + chunk * kSkinnyChunkBytes, bytes, barrier,
                 policy);
      }
      ring.Advance();
      is_first_round = is_first_round && ring.slot != 0;
    }
  }
}

// Copies one chunk of all tokens, and makes each lane arrive at `barrier` when its part is there.
// Not by bulk copies: those would queue behind the weights.
template <typename Weights>
__device__ void LoadTokenChunk(const SkinnyArgs& a, int chunk, uint32_t to, uint32_t barrier) {
  constexpr int kChunk = kSkinnyChunkBytes / Weights::kBytes;
  const int num_vecs = min(kChunk, a.k - chunk * kChunk) / 8;
  const uint4* from = static_cast<const uint4*>(a.x) + chunk * (kChunk / 8);
  for (int token = 0; token < a.num_rows; ++token) {
    for (int i = threadIdx.x % 32; i < num_vecs; i += 32) {
      CopyAsync16(to + token * Weights::kTokenPitch + i * 16, from + i);
    }
    from += a.x_stride / 8;
  }
  ArriveAfterCopies(barrier);
}

// The warp that loads tokens with every stage.
template <typename Weights>
__device__ void LoadTokens(const SkinnyArgs& a, const Barriers& barriers, uint32_t base) {
  WaitForProducers();
  Ring ring = {a.layout.num_stages};
  bool is_first_round = true;
  for (int tile = blockIdx.x; tile < a.num_tiles; tile += gridDim.x) {
    for (int chunk = 0; chunk < a.num_chunks; ++chunk) {
      if (!is_first_round) WaitForPhase(barriers.empty + 8 * ring.slot, ring.parity ^ 1);
      const uint32_t stage = base + a.layout.stages + ring.slot * a.layout.stage_bytes;
      LoadTokenChunk<Weights>(a, chunk, stage + a.tile_rows * kSkinnyWeightPitch,
                              barriers.full + 8 * ring.slot);
      ring.Advance();
      is_first_round = is_first_round && ring.slot != 0;
    }
  }
}

// The multiplying warps.
template <typename Weights, int kTokenGroups, int kRowGroups>
struct Multiplier {
  using Element = typename Weights::Element;
  static constexpr int kChunk = kSkinnyChunkBytes / Weights::kBytes;
  static constexpr int kPart = kChunk / kSkinnyMmaWarps;  // of a chunk, a warp
  static constexpr int kStep = kPart / 2;                 // what four lanes read of a row at once
  static constexpr int kTokens = kTokenGroups * 8;
  static constexpr int kTokenPitch = Weights::kTokenPitch;

  const SkinnyArgs& a;
  Barriers barriers;
  char* shared;
  int warp = threadIdx.x / 32;
  int group = threadIdx.x % 32 / 4;
  int quad = threadIdx.x % 4;
  float sums[kRowGroups][kTokenGroups][4];

  // This warp's part of one chunk, or the first half of it.
  template <int kSteps>
  __device__ void MultiplySteps(const char* weights, const char* tokens) {
    typename Weights::Tokens x[kSteps][kTokenGroups];
    uint4 low[kSteps][kRowGroups];
    uint4 high[kSteps][kRowGroups];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int r = 0; r < kRowGroups; ++r) {
        const char* row = weights + r * 16 * kSkinnyWeightPitch + step * kStep * Weights::kBytes;
        low[step][r] = *reinterpret_cast<const uint4*>(row);
        high[step][r] = {0, 0, 0, 0};
        if (kRowGroups > 1 || a.tile_rows > 8) {
          high[step][r] = *reinterpret_cast<const uint4*>(row + 8 * kSkinnyWeightPitch);
        }
      }
#pragma unroll
      for (int i = 0; i < kTokenGroups; ++i) {
        const int token = min(i * 8 + group, a.num_rows - 1);
        x[step][i] = Weights::LoadTokens(tokens + token * kTokenPitch + step * kStep * 2);
      }
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int r = 0; r < kRowGroups; ++r) {
        Weights::template Mma<kTokenGroups>(sums[r], low[step][r], high[step][r], x[step]);
      }
    }
  }

  __device__ void Multiply(const char* weights, const char* tokens, int size) {
    const int k = warp * kPart + quad * (kStep / 4);
    weights += group * kSkinnyWeightPitch + k * Weights::kBytes;
    tokens += k * 2;
    if ((warp + 1) * kPart <= size) {
      MultiplySteps<2>(weights, tokens);
    } else if (warp * kPart < size) {
      MultiplySteps<1>(weights, tokens);
    }
  }

  __device__ void StorePartials(float* partials) const {
    const int pitch = a.tile_rows + kSkinnyPartialPadding;
#pragma unroll
    for (int r = 0; r < kRowGroups; ++r) {
#pragma unroll
      for (int i = 0; i < kTokenGroups; ++i) {
        float* to = partials + (warp * kTokens + i * 8 + quad * 2) * pitch + r * 16 + group;
        to[0] = sums[r][i][0];
        to[pitch] = sums[r][i][1];
        if (kRowGroups > 1 || a.tile_rows > 8) {
          to[8] = sums[r][i][2];
          to[pitch + 8] = sums[r][i][3];
        }
      }
    }
  }

  __device__ void Run() {
    const int rows = a.silu_mul ? a.tile_rows / 2 : a.tile_rows;  // a power of two
    const int num_outputs = rows * a.num_rows;
    const int first = threadIdx.x;
    const WarpTokens<Weights> own(a, shared);
    if (a.norm_weight != nullptr) own.LoadNormWeight();
    WaitForProducers();
    // What the end of a tile reads is fetched at its start, so that the end need not wait for it.
    Epilogue<Element> epilogue(a, blockIdx.x, first & (rows - 1), first / rows,
                               first < num_outputs);
    if (a.layout.keeps_x) {
      own.Load();
      if (a.norm_weight != nullptr) own.Normalize();
    }
    Ring ring = {a.layout.num_stages};
    uint32_t buffer = 0;
    for (int tile = blockIdx.x; tile < a.num_tiles; tile += gridDim.x) {
#pragma unroll
      for (int i = 0; i < kRowGroups * kTokenGroups * 4; ++i) (&sums[0][0][0])[i] = 0.0f;
      if (tile != static_cast<int>(blockIdx.x)) {
        epilogue =
            Epilogue<Element>(a, tile, first & (rows - 1), first / rows, first < num_outputs);
      }
      for (int chunk = 0; chunk < a.num_chunks; ++chunk) {
        WaitForPhase(barriers.full + 8 * ring.slot, ring.parity);
        const char* stage = shared + a.layout.stages + ring.slot * a.layout.stage_bytes;
        const char* tokens = a.layout.keeps_x
                                 ? shared + a.layout.x + chunk * a.num_rows * kTokenPitch
                                 : stage + a.tile_rows * kSkinnyWeightPitch;
        Multiply(stage, tokens, min(kChunk, a.k - chunk * kChunk));
        __syncwarp();
        if (threadIdx.x % 32 == 0) Arrive(barriers.empty + 8 * ring.slot);
        ring.Advance();
      }
      // Two buffers: nobody writes one before all have passed the barrier after reading it.
      float* partials =
          reinterpret_cast<float*>(shared + a.layout.partials + buffer * a.layout.partial_bytes);
      buffer ^= 1;
      StorePartials(partials);
      SyncMmaWarps();
      for (int i = first; i < num_outputs; i += kSkinnyMmaWarps * 32) {
        if (i != first) epilogue = Epilogue<Element>(a, tile, i & (rows - 1), i / rows, true);
        epilogue.Write(a, partials, kTokens);
      }
    }
  }
};

}  // namespace skinny

template <typename Weights, int kTokenGroups, int kRowGroups>
__global__ void __launch_bounds__(kSkinnyThreads, 1)
    SkinnyLinearKernel(const __grid_constant__ SkinnyArgs a) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) char shared[];
  const uint32_t base = SharedAddress(shared);
  const uint32_t num_stages = a.layout.num_stages;
  const skinny::Barriers barriers = {base, base + 8 * num_stages};
  if (threadIdx.x == kSkinnyMmaWarps * 32) {
    for (uint32_t i = 0; i < num_stages; ++i) {
      InitBarrier(barriers.full + 8 * i, a.layout.keeps_x ? 1 : 1 + 32);
      InitBarrier(barriers.empty + 8 * i, kSkinnyMmaWarps);
    }
    PublishBarriers();
  }
  __syncthreads();
  LetDependentsStart();
  const int warp = threadIdx.x / 32;
  if (warp == kSkinnyMmaWarps) {
    skinny::LoadWeights<Weights>(a, barriers, base);
  } else if (warp > kSkinnyMmaWarps) {
    if (!a.layout.keeps_x) skinny::LoadTokens<Weights>(a, barriers, base);
  } else {
    skinny::Multiplier<Weights, kTokenGroups, kRowGroups>{a, barriers, shared}.Run();
  }
#endif
}

// The table of instances of one kind of weights.
template <typename Weights>
SkinnyKernel SkinnyInstance(int token_groups, int row_groups) {
  if (row_groups == 1) {
    return token_groups == 1 ? SkinnyLinearKernel<Weights, 1, 1>
                             : SkinnyLinearKernel<Weights, 2, 1>;
  }
  return token_groups == 1 ? SkinnyLinearKernel<Weights, 1, 2> : SkinnyLinearKernel<Weights, 2, 2>;
}

}  // namespace mili::kernels::cuda
